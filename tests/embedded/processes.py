"""Looking at processes from outside, through /proc."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], bool], timeout: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def is_zombie_or_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def using(path: Path) -> list[int]:
    """The other living processes that work in the folder or name it in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        with suppress(OSError):
            traces = f"{command_line(pid)} {(folder / 'cwd').readlink()}"
            if pid != os.getpid() and str(path) in traces and is_alive(pid):
                found.append(pid)
    return found


def listening_addresses(pid: int) -> set[str]:
    """The IP addresses that the process listens on."""
    inodes = {
        str(entry.readlink()).removeprefix("socket:[").removesuffix("]")
        for entry in Path(f"/proc/{pid}/fd").iterdir()
    }
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(_address(fields[1].partition(":")[0], family))
    return found


def _address(text: str, family: int) -> str:
    # Each group of four bytes is in the machine's byte order.
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, b"".join(word[::-1] for word in words))


@contextmanager
def owner(code: str, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A Python process of its own that runs the code; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
