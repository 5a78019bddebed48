"""Where a manifest's images may lie.

A manifest may come from anybody: what it names is read only within its root (links followed) or
in a bucket that the deployment allows. Without this, a row could have any file of the submitting
machine uploaded.
"""

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InvalidInput


@dataclass(frozen=True)
class Root:
    """A local folder, or an `s3://bucket/prefix`."""

    folder: Path | None
    prefix: str | None

    @classmethod
    def of(cls, where: str) -> "Root":
        """The root at a local path or an `s3://` address."""
        if where.startswith("s3://"):
            return cls(None, where.rstrip("/"))
        return cls(Path(where).resolve(), None)

    def __str__(self) -> str:
        """As `of` takes it."""
        return str(self.folder or self.prefix)

    def place(self, image: str) -> str:
        """The absolute path or `s3://` address that a row means by `image`.

        Raises:
            InvalidInput: it lies outside of the root.
        """
        if image.startswith("s3://"):
            return image
        if "\0" in image:
            raise InvalidInput("image", f"{image!r} holds a null character; remove it")
        if self.folder is None:
            return self._in_prefix(image)
        # `Path.resolve` would raise where a link leads to itself.
        try:
            path = Path(os.path.realpath(self.folder / image))
        except OSError as error:  # a link that changes under the look
            raise InvalidInput("image", f"{image!r}: {error.strerror}; try again") from None
        if not path.is_relative_to(self.folder):
            raise InvalidInput(
                "image",
                f"{image!r} lies outside of {self.folder}; move it there, or name another folder "
                "with --root",
            )
        return str(path)

    def _in_prefix(self, image: str) -> str:
        key = posixpath.normpath(image)
        if key.startswith(("/", "..")):
            raise InvalidInput(
                "image",
                f"{image!r} lies outside of {self.prefix}/; give its s3:// address, or for local "
                "files their folder with --root",
            )
        return f"{self.prefix}/{key}"
