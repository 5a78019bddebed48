"""Free ports on the loopback interface.

A port is only surely ours once the server listens on it: between choosing and listening another
process may take it, so whoever starts a server chooses again when the port turns out to be taken.
"""

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Choose distinct free ports: each is held until all are chosen."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def are_free(ports: Iterable[int]) -> bool:
    """Whether a server could listen on all of them now."""
    with ExitStack() as held:
        for port in ports:
            candidate = held.enter_context(socket.socket())
            # As servers do: the remains of closed connections must not count.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((LOOPBACK, port))
                candidate.listen(1)
            except (OSError, OverflowError):  # taken, or above 65535
                return False
    return True


def remembered_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """The ports in the file; empty where it does not name just these."""
    try:
        ports = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    usable = isinstance(ports, dict) and list(ports) == list(names)
    return {name: int(port) for name, port in ports.items()} if usable else {}


def choose_ports(
    file: Path, names: Sequence[str], offsets: Mapping[str, tuple[str, int]] = MappingProxyType({})
) -> dict[str, int]:
    """A free port for each name: those of the last time if they are free, so that URLs stay.

    `offsets` names ports that must be at a distance from another: `{name: (other, distance)}`.
    """
    ports = remembered_ports(file, names)
    while not ports or not are_free(ports.values()):
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        ports |= {name: ports[other] + distance for name, (other, distance) in offsets.items()}
    file.write_text(json.dumps(ports))
    return ports
