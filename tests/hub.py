"""A hub of models: a real server with as much of Hugging Face's protocol as a download takes."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """One repository at one commit, and which of its files were fetched."""

    repository: str
    folder: Path
    commit: str
    port: int = 0
    fetched: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home: Path) -> dict[str, str]:
        """What makes a process take it for the hub, and keep its cache in ``home``."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}

    @property
    def files(self) -> list[str]:
        every = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in every)

    def says(self, path: str) -> object | None:
        """The answer of the API, if there is one."""
        api = f"/api/models/{self.repository}"
        if path in (api, f"{api}/revision/{self.commit}", f"{api}/revision/main"):
            siblings = [{"rfilename": name} for name in self.files]
            return {"id": self.repository, "sha": self.commit, "siblings": siblings}
        if path == f"{api}/tree/{self.commit}":
            sizes = {name: (self.folder / name).stat().st_size for name in self.files}
            return [
                {"type": "file", "path": name, "size": size, "oid": self.tag(name)}
                for name, size in sizes.items()
            ]
        return None

    def tag(self, name: str) -> str:
        return hashlib.sha1((self.folder / name).read_bytes()).hexdigest()  # noqa: S324


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        said = self.hub.says(path)
        if said is not None:
            self._send(json.dumps(said).encode(), {"Content-Type": "application/json"})
            return
        start = f"/{self.hub.repository}/resolve/{self.hub.commit}/"
        name = path.removeprefix(start)
        if not path.startswith(start) or name not in self.hub.files:
            self.send_response(404)
            kind = "RevisionNotFound" if "/revision/" in path or "/resolve/" in path else "Repo"
            self.send_header("X-Error-Code", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.command == "GET":
            self.hub.fetched.append(name)
        tags = {"ETag": f'"{self.hub.tag(name)}"', "X-Repo-Commit": self.hub.commit}
        self._send((self.hub.folder / name).read_bytes(), tags)

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for header in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(*header)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def serving(repository: str, source: Path, folder: Path, commit: str) -> Iterator[Hub]:
    """Serve a copy of ``source``, made in ``folder``."""
    hub = Hub(repository, Path(shutil.copytree(source, folder)), commit)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
