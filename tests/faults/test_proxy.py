"""The proxy's faults, as a client meets them."""

import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults import proxy
from tests.faults.proxy import FaultProxy, Mode

BODY = b"x" * 5_000


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def through() -> Iterator[FaultProxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        with FaultProxy(server.server_port) as through:
            yield through
        server.shutdown()


def put(connection: HTTPConnection) -> tuple[int, bytes]:
    connection.request("PUT", "/", BODY)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.fixture
def connection(through: FaultProxy) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", through.port, timeout=20)
    yield connection
    connection.close()


@pytest.mark.parametrize("mode", [Mode.PASS, Mode.SLOW])
def test_what_passes_is_whole(
    through: FaultProxy, connection: HTTPConnection, mode: Mode, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proxy, "SLOW_SECONDS", 0.05)
    through.mode = mode

    assert put(connection) == (200, BODY)
    assert put(connection) == (200, BODY)
    assert through.struck[mode] == 1


def test_a_refused_request_is_answered_503(through: FaultProxy, connection: HTTPConnection):
    through.mode = Mode.REFUSE

    assert put(connection)[0] == 503


def test_an_answer_that_is_cut_never_looks_whole(through: FaultProxy, connection: HTTPConnection):
    through.mode = Mode.CUT

    with pytest.raises((HTTPException, OSError)):
        put(connection)


def test_a_change_of_mode_holds_for_open_connections(
    through: FaultProxy, connection: HTTPConnection
):
    assert put(connection) == (200, BODY)

    through.mode = Mode.REFUSE

    with pytest.raises((HTTPException, OSError)):
        put(connection)
    through.mode = Mode.PASS
    connection.close()
    assert put(connection) == (200, BODY)
