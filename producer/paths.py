"""One image file of this machine that somebody names over the network.

Off unless the deployment names folders (`EDICT_SOURCE_ROOTS`), and then only below these.
Invariants: nothing outside of them is opened, and whoever asks for it is answered the same whether
it exists or not. Links are followed to where they lead now, and that place is then opened from its
root on, one name after another and none of them a link: what changes in between is refused.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath

from jobs.errors import InvalidInput

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe would be waited for, a terminal would become ours.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_below(path: str, roots: Sequence[str], *, max_bytes: int) -> bytes:
    """Read a file by its absolute path, if it lies under one of the folders.

    Raises:
        InvalidInput: it does not, is no plain file, cannot be read, or has more than `max_bytes`.
    """
    root, names = _place(path, roots)
    try:
        with ExitStack() as opened:
            folder = _opened(opened, root, _FOLDER, None)
            for name in names[:-1]:
                folder = _opened(opened, name, _FOLDER, folder)
            file = _opened(opened, names[-1], _FILE, folder)
            return _content(file, path, max_bytes)
    except OSError as error:
        raise _refused(path, f"{error.strerror}; give the path of an image file") from None


def _place(path: str, roots: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The folder under which the file lies, and the names that lead to it from there."""
    plain = "\0" not in path and {".", ".."}.isdisjoint(path.split("/"))
    # Without a look at the file system: how long one takes must tell nothing either.
    if plain and any(PurePosixPath(path).is_relative_to(root) for root in roots):
        # A link that changes under the look raises.
        with suppress(OSError):
            real = Path(os.path.realpath(path))
            for root in map(os.path.realpath, roots):
                if real.is_relative_to(root) and real != Path(root):
                    return root, real.relative_to(root).parts
    listed = ", ".join(roots) or "none"
    raise _refused(
        path,
        f"lies in no folder that may be read ({listed}); upload the image, or add its folder to "
        "EDICT_SOURCE_ROOTS",
    )


def _opened(opened: ExitStack, name: str, flags: int, folder: int | None) -> int:
    descriptor = os.open(name, flags, dir_fd=folder)
    opened.callback(os.close, descriptor)
    return descriptor


def _content(file: int, path: str, max_bytes: int) -> bytes:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise _refused(path, "is no plain file; give the path of an image file")
    data = b""
    if found.st_size <= max_bytes:
        with os.fdopen(file, "rb", closefd=False) as stream:
            # It may grow while it is read.
            data = stream.read(max_bytes + 1)
    size = max(found.st_size, len(data))
    if size > max_bytes:
        raise _refused(
            path,
            f"has {size} bytes, over the limit of {max_bytes}; make it smaller or raise "
            "EDICT_MAX_SOURCE_BYTES",
        )
    return data


def _refused(path: str, problem: str) -> InvalidInput:
    return InvalidInput("source", f"{path!r:.200} {problem}")
