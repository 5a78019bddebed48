"""Result files: images that carry their own recipe, and the mark of what made them.

| format | recipe | mark |
|---|---|---|
| PNG | JSON in an iTXt chunk, `edict` | XMP |
| JPEG, WebP | JSON in the XMP's `edict:recipe` | the same XMP |

The mark is IPTC's DigitalSourceType for images that AI has changed in part. The same recipe and
pixels give the same bytes: no time, no job and no host is written into a file.
"""

import io
import json
import re
from typing import Annotated, Any, Literal
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InvalidInput
from jobs.results import Output, Result
from jobs.specs import EditSpec, OutputOptions, ReconstructionSpec, Sha256, invalid_input

DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}
MEDIA_TYPES = {kind: f"image/{kind}" for kind in SUFFIXES}
DEFAULT_QUALITY = 90

_ENTRY = "edict"
_NAMESPACE = "urn:edict:result"
_PNG_XMP = "XML:com.adobe.xmp"
_NOT_XML = re.compile("[\ufffe\uffff]")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:edict="{namespace}">
   <xmp:CreatorTool>edict</xmp:CreatorTool>
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>{recipe}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


ImageSpec = Annotated[EditSpec | ReconstructionSpec, Field(discriminator="kind")]
"""What an image comes out of."""


class Recipe(BaseModel):
    """All that it takes to make an image again, and what was measured when it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    spec: ImageSpec
    """As it was submitted: prompts, sampler, model, source."""
    digest: Sha256
    model_revision: str
    latents_sha256: Sha256
    """The bytes of the stored inversion that the image was generated from."""
    inversion_fingerprint: str
    fingerprint: str
    """Of the generation: what its bits depend on (see `jobs.results`)."""
    rows: int
    """Rows of the generation's batch; `EditSpec.rows` asks for them again."""
    exact: bool | None
    max_error: float | None
    psnr: float | None

    @classmethod
    def of(cls, spec: ImageSpec, result: Result, *, rows: int) -> "Recipe":
        """The recipe of what became of `spec`, with the figures of `result`."""
        if isinstance(spec, EditSpec):
            # A repetition at the rows of the first time is the same question.
            spec = spec.model_copy(update={"rows": None})
        return cls(
            spec=spec,
            digest=spec.digest(),
            model_revision=result.model_revision,
            latents_sha256=result.outputs["latents"].sha256,
            inversion_fingerprint=result.fingerprint,
            fingerprint=result.generation_fingerprint or "",
            rows=rows,
            exact=result.exact,
            max_error=result.max_error,
            psnr=result.psnr,
        )


def encode(image: Image.Image, recipe: Recipe, options: OutputOptions) -> bytes:
    """The image's file, its recipe inside."""
    buffer = io.BytesIO()
    quality = options.quality or DEFAULT_QUALITY
    match options.format:
        case "png":
            image.save(buffer, "PNG", pnginfo=_chunks(recipe))
        case "jpeg":
            # Full colour resolution: half of it shows on edges of saturated colours.
            image.save(buffer, "JPEG", quality=quality, subsampling=0, xmp=_xmp(_json(recipe)))
        case "webp":
            image.save(buffer, "WEBP", quality=quality, xmp=_xmp(_json(recipe)))
    return buffer.getvalue()


def read_recipe(data: bytes, name: str) -> Recipe:
    """The recipe in a result file; `name` is for messages.

    Raises:
        InvalidInput: it is no such image, holds no recipe of ours, or not an intact one.
    """
    found = _entry(data, name)
    if found is None:
        raise InvalidInput(
            "file",
            f"{name} holds no recipe of ours: it was not made here, or saved again by a program "
            "that drops metadata; give the file as `edict results` wrote it",
        )
    try:
        recipe = Recipe.model_validate_json(found)
    except ValidationError as error:
        raise InvalidInput(
            "file",
            f"{name} holds a recipe that this version cannot read ({invalid_input(error)}); "
            "it is damaged, or of a newer version",
        ) from None
    if recipe.spec.digest() != recipe.digest:
        raise InvalidInput(
            "file",
            f"{name} holds a recipe whose digest is not {recipe.digest}: it was changed by hand; "
            "give the file as `edict results` wrote it",
        )
    return recipe


def sidecar(recipe: Recipe, image: Image.Image, output: Output) -> bytes:
    """The JSON file beside the image, for those that do not read metadata. Follows from both."""
    content = {
        "image": output.model_dump() | {"width": image.width, "height": image.height},
        "digital_source_type": DIGITAL_SOURCE_TYPE,
        **recipe.model_dump(mode="json"),
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _json(recipe: Recipe) -> str:
    text = json.dumps(recipe.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
    # The two characters that a prompt may have and XML may not.
    return _NOT_XML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _chunks(recipe: Recipe) -> PngInfo:
    chunks = PngInfo()
    chunks.add_itxt(_PNG_XMP, _xmp().decode())
    chunks.add_itxt(_ENTRY, _json(recipe))
    return chunks


def _xmp(recipe: str | None = None) -> bytes:
    """The XMP packet. A JPEG takes 65,502 bytes of it; the longest prompts fit."""
    entry = "" if recipe is None else f"\n   <edict:recipe>{escape(recipe)}</edict:recipe>"
    filled = _PACKET.format(namespace=_NAMESPACE, source_type=DIGITAL_SOURCE_TYPE, recipe=entry)
    return filled.encode()


def _entry(data: bytes, name: str) -> str | None:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            # Chunks may follow the pixels.
            image.load()
            info: dict[Any, Any] = dict(image.info)
    except Exception as error:
        # Hostile headers make Pillow raise nearly anything: struct.error, KeyError, zlib.error.
        raise InvalidInput(
            "file", f"{name} is no intact PNG, JPEG or WebP ({error}); give a result's file"
        ) from None
    entry = info.get(_ENTRY)
    return entry if isinstance(entry, str) else _entry_of_xmp(info.get("xmp"))


def _entry_of_xmp(packet: object) -> str | None:
    # No packet of ours declares a document type, and one that does may unfold without end.
    if not isinstance(packet, bytes) or b"<!DOCTYPE" in packet:
        return None
    try:
        found = ET.fromstring(packet).find(f".//{{{_NAMESPACE}}}recipe")  # noqa: S314 - see above
    except ET.ParseError:
        return None
    return None if found is None else found.text
