"""Files that only their owner may read, and locks that outlive their maker's death."""

import fcntl
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from producer.embedded.errors import HomeInUse, HomeUnusable

_POLL_SECONDS = 0.05


def make_private_folder(folder: Path) -> Path:
    """Make the folder, readable by its owner only, and give its absolute path.

    Raises:
        HomeUnusable: there can be no folder of that name.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(
            f"{folder} cannot be used: {error.strerror}; name a folder that may be written to"
        ) from None
    return folder.resolve()


def write_private(path: Path, text: str) -> None:
    """Replace the file at once, mode 0600: a reader sees the old text or the new."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)  # made with mode 0600
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise


def remembered_secret(path: Path) -> str:
    """The secret in the file; a new one is drawn and kept there the first time."""
    with suppress(FileNotFoundError):
        if secret := path.read_text().strip():
            return secret
    secret = secrets.token_urlsafe(30)
    write_private(path, secret + "\n")
    return secret


def lock_file(path: Path, patience: float = 0.0) -> int:
    """Lock the file for this process and for every child that inherits the descriptor.

    The lock ends when the last of them closes it or ends, SIGKILL included. It waits `patience`
    seconds for another holder.

    Raises:
        HomeInUse: another holds it; names the process where the file says which.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for_lock(descriptor, path, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for_lock(descriptor: int, path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise HomeInUse(_in_use(path))
        time.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(path: Path) -> str:
    holder = path.read_text().strip() or "unknown"
    return (
        f"{path.parent} is in use by process {holder} (or by a server it left behind). Use that "
        "stack, stop it, or choose another folder with EDICT_HOME"
    )
