"""The pictures that pages show, made small on the way.

What people uploaded is never handed to a browser as it is: it is decoded and encoded again.
"""

import io
from typing import Literal

from PIL import Image, ImageChops, ImageOps

from jobs.errors import NotFound
from jobs.keys import sha256
from jobs.records import Job
from jobs.specs import EditSpec, Source
from producer.client import Client
from producer.gallery.originals import png_size, prepared

What = Literal["image", "original", "mask", "difference"]
THUMBNAIL_PIXELS = 256
"""Longer side of what workers store beside results, and what grids show."""
_HEAT = ("#10101c", "#d0402c", "#fff3b0")
_GAIN = 3
"""Differences are small: a third of the full range is shown as all of it."""


class Pictures:
    """Pictures of one job."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job

    def picture(self, what: What, size: int | None) -> tuple[bytes, str]:
        """A picture and its media type; `size` bounds its longer side, in pixels.

        Raises:
            NotFound: the job has none.
            AccessDenied, ServiceUnavailable: what the object store answered.
        """
        if what == "image" and size is None:
            return _as_it_is(self._result())
        if what == "image" and size is not None and (small := self._thumbnail(size)):
            return _as_it_is(small)
        return _encoded(self._made(what), size)

    def _made(self, what: What) -> Image.Image:
        match what:
            case "image":
                return _opened(self._result())
            case "original":
                return _opened(self._prepared(self._job.spec.source))
            case "mask":
                return self._mask()
            case "difference":
                before = _opened(self._prepared(self._job.spec.source))
                return _heat(before, _opened(self._result()))

    def _result(self, role: str = "image") -> bytes:
        result = self._job.result
        output = result.outputs.get(role) if result else None
        if result is None or output is None or role in result.pruned:
            raise NotFound(f"the job {self._job.id} has no {role}")
        return self._client.objects.get(output.key)

    def _thumbnail(self, size: int) -> bytes | None:
        """The worker's own, if there is one that is neither too large nor needlessly small."""
        try:
            data = self._result("thumbnail") if size >= THUMBNAIL_PIXELS else None
        except NotFound:
            # Results of earlier versions have none.
            return None
        if data is None or size == THUMBNAIL_PIXELS:
            return data
        # Of a picture that is no larger itself, the thumbnail is all there is to see.
        return data if max(_opened(data).size) < THUMBNAIL_PIXELS else None

    def _mask(self) -> Image.Image:
        result, spec = self._job.result, self._job.spec
        if result is not None and "mask" in result.outputs:
            return _opened(self._result("mask"))
        if isinstance(spec, EditSpec) and isinstance(spec.mask, Source):
            return _opened(self._prepared(spec.mask))
        raise NotFound(f"the job {self._job.id} has no mask")

    def _prepared(self, source: Source) -> bytes:
        """An image as the model was shown it."""
        limit = self._client.settings.max_source_bytes
        data = self._client.objects.read(source.uri, max_bytes=limit)
        if sha256(data) != source.sha256:
            raise NotFound(f"{source.uri} has changed since it was submitted")
        # Those of a manifest that vouches for them were never decoded.
        self._client.sources.check(data, source.uri)
        return prepared(data, self._size(), self._job.spec.image.fit)

    def _size(self) -> tuple[int, int] | None:
        try:
            return png_size(self._result())
        except NotFound:
            return None


def _as_it_is(data: bytes) -> tuple[bytes, str]:
    with Image.open(io.BytesIO(data)) as image:
        return data, f"image/{str(image.format).lower()}"


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _heat(before: Image.Image, after: Image.Image) -> Image.Image:
    difference = ImageChops.difference(before, after).convert("L")
    stronger = difference.point(lambda value: min(255, value * _GAIN))
    black, mid, white = _HEAT
    return ImageOps.colorize(stronger, black=black, mid=mid, white=white)


def _encoded(image: Image.Image, size: int | None) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    if size is None:
        image.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue(), "image/webp"
