"""The images that a spec names: fetched, compared with what was submitted, brought to size."""

from typing import Literal

from PIL import Image

from edict_engine.errors import ParameterError
from edict_engine.images import image_size, load_image
from edict_engine.model import Model
from jobs.errors import AccessDenied, InvalidInput, ObjectNotFound
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.specs import EditSpec, Source, Spec
from worker.failures import SourceChanged, SourceRefused


class SourceReader:
    """Reads sources and masks at the size that the model takes."""

    def __init__(
        self, objects: ObjectStore, model: Model, *, max_bytes: int, max_pixels: int
    ) -> None:
        self._objects = objects
        self._model = model
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def image(self, spec: Spec) -> Image.Image:
        """The image that the spec is about.

        Raises:
            SourceChanged, SourceRefused: it is not, or no longer, what was submitted.
            JobsError: what the object store answered.
            EngineError: it is no image, or too large.
        """
        return self._load(self._read(spec.source), spec)

    def mask(self, spec: EditSpec) -> Image.Image | Literal["auto"] | None:
        """The spec's mask, cut and scaled exactly as its image; "auto" and None as they are.

        Raises the same as `image`, and ParameterError if mask and image differ in size.
        """
        if not isinstance(spec.mask, Source):
            return spec.mask
        data = self._read(spec.mask)
        of_mask, of_image = image_size(data), image_size(self._read(spec.source))
        if of_mask != of_image:
            raise ParameterError(
                f"the mask has {of_mask[0]}x{of_mask[1]} pixels and the image "
                f"{of_image[0]}x{of_image[1]}: give a mask of the image's size"
            )
        return self._load(data, spec)

    def _load(self, data: bytes, spec: Spec) -> Image.Image:
        return load_image(
            data,
            size=spec.image.size or self._model.default_size,
            fit=spec.image.fit,
            multiple=self._model.pixel_factor,
            max_bytes=self._max_bytes,
            max_pixels=self._max_pixels,
        )

    def _read(self, source: Source) -> bytes:
        try:
            data = self._objects.read(source.uri, max_bytes=self._max_bytes)
        except (ObjectNotFound, AccessDenied, InvalidInput) as error:
            raise SourceRefused(error.public) from None
        digest = sha256(data)
        if digest != source.sha256:
            raise SourceChanged(
                f"{source.uri} now has the SHA-256 {digest}, and the job was submitted for "
                f"{source.sha256}; submit it again for the new image"
            )
        return data
