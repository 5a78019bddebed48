"""The door for images: checked here, once, before any worker sees them."""

import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jobs.errors import InvalidInput
from jobs.keys import sha256, source_key
from jobs.objects import ObjectStore
from jobs.specs import Source

FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif"}
MEDIA_TYPES = {suffix: f"image/{name.lower()}" for name, suffix in FORMATS.items()}


class SourceDoor:
    """Takes images in from local files and from the object store."""

    def __init__(self, objects: ObjectStore, *, max_bytes: int, max_pixels: int) -> None:
        self._objects = objects
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def admit(self, where: str) -> Source:
        """Check the image at a local path or `s3://` address; local ones are uploaded.

        Raises:
            InvalidInput: names the image, what is wrong and what to do.
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
        """
        if where.startswith("s3://"):
            data = self._objects.read(where, max_bytes=self._max_bytes)
            self.check(data, where)
            return Source(uri=where, sha256=sha256(data))
        return self.upload(self._read_file(Path(where)), where)

    def upload(self, data: bytes, name: str) -> Source:
        """Check an image given as bytes and put it into our bucket; `name` is for messages.

        Raises:
            InvalidInput: names the image, what is wrong and what to do.
            AccessDenied, ServiceUnavailable: what the object store answered.
        """
        suffix = self.check(data, name)
        key = source_key(data, suffix)
        if not self._objects.put(key, data, MEDIA_TYPES[suffix]):
            # It may be about to be deleted, as no row speaks of it (see `producer.retention`).
            self._objects.touch(key, MEDIA_TYPES[suffix])
        return Source(uri=self._objects.uri(key), sha256=sha256(data))

    def check(self, data: bytes, name: str) -> str:
        """Decode the image once, its size checked before; returns its file type.

        Raises:
            InvalidInput: names the image, what is wrong and what to do.
        """
        try:
            with warnings.catch_warnings():
                # Pillow only warns of bombs of a certain size; ours are refused below.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
                    self._check_size(image, name)
                    image.load()
                    return FORMATS[str(image.format)]
        except Image.DecompressionBombError:
            raise InvalidInput(
                "image",
                f"{name} has far more pixels than the limit of {self._max_pixels}; make it smaller",
            ) from None
        except UnidentifiedImageError:
            raise InvalidInput(
                "image",
                f"{name} is no image of a kind we read ({', '.join(FORMATS)}); "
                + ("give one of these" if data else "it is empty: copy it again"),
            ) from None
        except InvalidInput:
            raise
        except Exception as error:
            # Hostile headers make Pillow raise nearly anything: struct.error, KeyError, zlib.error.
            raise InvalidInput(
                "image", f"{name} is damaged ({error}); save it again from its original"
            ) from None

    def _check_size(self, image: Image.Image, name: str) -> None:
        pixels = image.width * image.height
        if pixels > self._max_pixels:
            raise InvalidInput(
                "image",
                f"{name} has {image.width} x {image.height} = {pixels} pixels, over the limit of "
                f"{self._max_pixels}; make it smaller or raise EDICT_MAX_SOURCE_PIXELS",
            )

    def _read_file(self, path: Path) -> bytes:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InvalidInput("image", f"{path} {what}; give the path of an image file")
        try:
            size = path.stat().st_size
            if size > self._max_bytes:
                raise InvalidInput(
                    "image",
                    f"{path} has {size} bytes, over the limit of {self._max_bytes}; "
                    "make it smaller or raise EDICT_MAX_SOURCE_BYTES",
                )
            return path.read_bytes()
        except OSError as error:
            raise InvalidInput("image", f"{path} cannot be read: {error.strerror}") from None
