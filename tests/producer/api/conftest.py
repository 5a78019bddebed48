"""The API on a real port, in front of real services."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from producer.api.serve import bind, make_server
from producer.client import Client
from tests.pipeline import eventually

Serve = Callable[..., httpx.Client]


@contextmanager
def serving(client: Client, *, keyless: bool) -> Iterator[str]:
    """A server of its own thread; its URL."""
    server = make_server(client, keyless=keyless)
    with bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started, seconds=20)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def api(client: Client) -> Iterator[httpx.Client]:
    """Whoever is on this machine."""
    with (
        serving(client, keyless=True) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        yield http


@pytest.fixture
def guarded(client: Client) -> Iterator[httpx.Client]:
    """A server that asks for keys."""
    with (
        serving(client, keyless=False) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        yield http
