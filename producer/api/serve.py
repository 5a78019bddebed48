"""Listening: where the API may be reached, and by whom."""

import socket

import uvicorn

from jobs.errors import ConfigurationError
from jobs.store import JobStore
from jobs.store.base import utc_now
from producer.api.access import is_loopback
from producer.api.app import make_api
from producer.client import Client

STOP_SECONDS = 5
"""How long open streams and requests may go on when the server is told to stop."""


def check_keys(store: JobStore, host: str, *, require_key: bool) -> bool:
    """Whether to serve without keys: only where nobody but this machine can ask.

    Raises:
        ConfigurationError: a key is needed, and there is none.
    """
    if is_loopback(host) and not require_key:
        return True
    if not any(key.is_live(utc_now()) for key in store.api_keys()):
        raise ConfigurationError(
            f"a server on {host} needs a key, and there is none; make one with "
            "`edict keys create NAME --scope admin`, or listen on 127.0.0.1 without --require-key"
        )
    return False


def bind(host: str, port: int) -> socket.socket:
    """Take the port (0: any that is free).

    Raises:
        ConfigurationError: it cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2_048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose others with --host "
            "and --port"
        ) from None


def make_server(client: Client, *, keyless: bool) -> uvicorn.Server:
    """The server, not started."""
    config = uvicorn.Config(
        make_api(client, keyless=keyless),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever a proxy says that it speaks for is nobody's to know here.
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return uvicorn.Server(config)
