"""Images from https addresses: what a hostile address or server can try."""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest
import trustme

from jobs.errors import InvalidInput
from producer.fetching import fetch, shown_source
from tests.producer.conftest import png

LIMIT = 4_000
HERE = (ip_network("127.0.0.0/8"),)


class Handler(BaseHTTPRequestHandler):
    """Answers by what the path asks for."""

    def do_GET(self) -> None:
        kind, body, length = "image/png", png(), None
        match self.path.strip("/").partition("?")[0]:
            case "html":
                kind = "text/html"
            case "long":
                body = b"x" * (LIMIT + 1)
            case "endless":
                body, length = b"x" * (10 * LIMIT), -1
            case "liar":
                body, length = b"x" * 10, 10**12
            case "stuck":
                self.server.stop.wait(10)  # type: ignore[attr-defined]
                return
        moved = self.path.startswith("/moved")
        self.send_response({"/gone": 404}.get(self.path, 302 if moved else 200))
        if moved:
            self.send_header("Location", "https://169.254.169.254/latest/meta-data")
        self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def port(authority: trustme.CA) -> Iterator[int]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.stop = threading.Event()  # type: ignore[attr-defined]
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture
def get(authority: trustme.CA, port: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    real = socket.getaddrinfo

    # Only IPv4: the server listens there.
    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "localhost" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def run(path: str, **changes: Any) -> bytes:
        options = {"max_bytes": LIMIT, "allowed": HERE, "context": context, "seconds": 5.0}
        hosts = [f"localhost:{port}"]
        return fetch(f"https://localhost:{port}/{path}", hosts, **options | changes)

    return run


def test_an_image_of_a_host_on_the_list_is_read(get: Any) -> None:
    assert get("cat.png?size=large") == png()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("moved", "leads elsewhere"),
        ("html", "no image"),
        ("long", "over 4000 bytes"),
        ("endless", "over 4000 bytes"),
        ("liar", "over 4000 bytes"),
        ("gone", "answered 404"),
    ],
)
def test_what_is_no_image_of_bearable_size_is_refused(get: Any, path: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        get(path)


def test_a_server_that_does_not_answer_is_left(get: Any) -> None:
    with pytest.raises(InvalidInput, match="no answer within"):
        get("stuck", seconds=0.3)


def test_a_server_that_nobody_vouches_for_is_refused(get: Any) -> None:
    with pytest.raises(InvalidInput, match="certificate"):
        get("cat.png", context=ssl.create_default_context())


def test_addresses_that_are_not_public_are_refused(
    get: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=r"resolves to 127\.0\.0\.1, which is not public"):
        get("cat.png", allowed=())
    # A name with a good address and a bad one, as rebinding has them in turn
    for bad in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"):
        answers = [(0, 0, 0, "", (text, 0)) for text in ("93.184.215.14", bad)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=answers, **__: found)
        with pytest.raises(InvalidInput, match="is not public"):
            fetch("https://a.example/x.png", ["a.example"], max_bytes=LIMIT)


def test_the_address_that_was_checked_is_the_one_that_is_called(
    get: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *rest: Any, **more: Any) -> Any:
        if host == "localhost":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "127.9.9.9", *rest, **more)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert get("cat.png") == png()
    assert len(asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x",
        "https://b.example/x",
        "https://a.example.evil/x",
        "https://a.example:8443/x",
        "https://a.example@evil/x",
        "https://user:s3cret@a.example/x",
        "https://a.example/\r\nHost: evil",
        "https:///x",
        "https://[a.example/x",
        "file:///etc/passwd",
        "https://a.example/" + "x" * 3_000,
    ],
)
def test_other_addresses_are_not_even_resolved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise AssertionError("resolved")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(InvalidInput, match="source") as caught:
        fetch(url, ["a.example"], max_bytes=LIMIT)
    assert "s3cret" not in str(caught.value)


def test_a_refused_address_is_shown_without_what_opens_it() -> None:
    signed = "https://user:secret@example.org/cat.png?X-Amz-Signature=abc&token=def"

    with pytest.raises(InvalidInput) as refusal:
        fetch(signed, ["example.org"], max_bytes=LIMIT)

    assert shown_source(signed) == "example.org/cat.png"
    for secret in ("secret", "X-Amz-Signature", "abc", "def"):
        assert secret not in str(refusal.value)
