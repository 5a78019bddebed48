"""What the demo edits: the bundled manifest, or a folder of somebody's own photographs."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from jobs.errors import ConfigurationError, InvalidInput
from jobs.specs import EditPrompt, Prompt
from producer.admission import Row, edit_rows

STEPS = 16
STRENGTH = 1.0
GUIDANCE = 4.0
MIX = 0.78
"""So few steps take EDICT's two latents far apart: mixed less, black and white keeps colours."""

LOCAL = {"mask": "auto", "keep_pixels": True, "edit_guidance_scale": 6.0}
"""What is around a local edit holds it back, so it is guided more; there it can spoil nothing."""

OWN_PROMPT = "a photo"
OWN_EDITS = ("a pencil sketch", "a black and white photo", "a photo at night")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}

_FOLDER = Path(__file__).parent
_BUNDLED = "made_by_the_model"


class Item(BaseModel):
    """One image and what is done to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    """`skimage:NAME`, a photograph that scikit-image brings; `made:NAME`, one beside this file; or
    a path."""
    title: str
    origin: str = ""
    base_prompt: Prompt
    edits: tuple[EditPrompt, ...] = ()
    local_edits: tuple[EditPrompt, ...] = ()
    """Of one thing, which the rest of the image is kept from."""

    @property
    def path(self) -> Path:
        """Where the image lies.

        Raises:
            ConfigurationError: scikit-image is not installed.
        """
        kind, _, name = self.image.partition(":")
        if kind == "skimage":
            return _photographs() / name
        return _FOLDER / _BUNDLED / name if kind == "made" else Path(self.image)

    def rows(self) -> list[Row]:
        """A reconstruction and every edit."""
        sampler = {
            "steps": STEPS,
            "strength": STRENGTH,
            "guidance_scale": GUIDANCE,
            "mix": MIX,
        }
        fields = {"base_prompt": self.base_prompt, "sampler": sampler}
        image = str(self.path)
        round_trip = Row(image, {**fields, "kind": "reconstruction"})
        everywhere = edit_rows([image], self.edits, fields)
        return [round_trip, *everywhere, *edit_rows([image], self.local_edits, fields | LOCAL)]


def bundled() -> list[Item]:
    """The images that the demo brings."""
    lines = (_FOLDER / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [Item.model_validate_json(line) for line in lines]


def from_folder(folder: Path) -> Sequence[Item]:
    """Every image file of a folder, in the default styles.

    Raises:
        InvalidInput: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InvalidInput("images", f"{folder} is not a folder; give one that holds images")
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise InvalidInput("images", f"{folder} holds no image ({kinds}); give another folder")
    return [
        Item(
            image=str(path.resolve()),
            title=path.name,
            base_prompt=OWN_PROMPT,
            edits=OWN_EDITS,
        )
        for path in found
    ]


def _photographs() -> Path:
    # Found, not imported: its files are all that is needed.
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the demo's photographs come with scikit-image, which is not installed; "
            "run pip install 'edict[embedded]', or use your own: edict demo --images FOLDER"
        )
    return Path(spec.origin).parent / "data"
