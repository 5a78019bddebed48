"""The command line, loaded once and forked for each command.

A page has ten commands, and each would spend most of its time on importing. What runs in the fork
is `edict` with the arguments, folder, variables and files of its caller, as if it had been started.

    python -m tests.documents.warm SOCKET          waits for callers
    python -S warm.py SOCKET ARGUMENTS…            is a caller
"""

import array
import json
import os
import signal
import socket
import sys

_LARGEST = 1 << 20
_FILES = (0, 1, 2)


def call(place: str, arguments: list[str]) -> int:
    """Have a command run; its exit status."""
    wish = {"arguments": arguments, "folder": os.getcwd(), "variables": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        connection.connect(place)
        files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", _FILES))
        connection.sendmsg([json.dumps(wish).encode()], [files])
        answer = connection.recv(16)
    return int(answer) if answer else 70


def serve(place: str) -> None:
    """Fork for each caller."""
    import boto3  # noqa: F401
    import celery  # noqa: F401

    import producer.bulk
    import producer.cli
    import producer.client  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(place)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(connection)
            connection.close()


def _run(connection: socket.socket) -> None:
    status = 70
    try:
        message, files, _, _ = socket.recv_fds(connection, _LARGEST, len(_FILES))
        wish = json.loads(message)
        for mine, theirs in zip(_FILES, files, strict=True):
            os.dup2(theirs, mine)
        os.chdir(wish["folder"])
        os.environ.clear()
        os.environ.update(wish["variables"])
        sys.argv = ["edict", *wish["arguments"]]
        status = _status_of_main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(str(status).encode())
        os._exit(0)


def _status_of_main() -> int:
    from producer.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    sys.exit(call(sys.argv[1], sys.argv[2:]))
