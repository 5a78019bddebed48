"""Finding a checkpoint, checking that it is one the engine runs, and naming its contents.

A checkpoint is a folder in the Stable Diffusion layout of diffusers: ``model_index.json`` beside
one folder for each component. Everything here happens before any weight is loaded.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edict_engine.errors import ModelNotFound, ModelNotUsable, ModelUnreachable
from edict_engine.families import find_family

#: The checkpoint that ships with the package, and the source that names it.
DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "small_model"

#: "name" or "owner/name".
HUB_ID_PARTS = 2
HASHED_SUFFIXES = {".json", ".txt", ".safetensors"}


@dataclass(frozen=True)
class Checkpoint:
    """A folder that passed the checks; ``revision`` names its exact contents."""

    name: str
    folder: Path
    revision: str


def find_checkpoint(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Checkpoint:
    """Return the checkpoint that ``source`` names: "demo", a folder, or a hub id.

    The revision of a hub id is its commit; that of a folder is the SHA-256 over its files, and a
    folder with other contents than ``revision`` is refused.

    Raises ``ModelNotFound``, ``ModelUnreachable`` or ``ModelNotUsable``.
    """
    folder = DEMO_FOLDER if source == DEMO else Path(source)
    if not folder.is_dir():
        if folder.is_absolute() or len(folder.parts) > HUB_ID_PARTS:
            raise ModelNotFound(f"{source} is neither a folder nor a hub id: check the path")
        folder = _download(str(source), revision, local_files_only)
        check_layout(folder)
        return Checkpoint(str(source), folder, folder.name)  # the cache names it by the commit
    check_layout(folder)
    contents = _hash_files(folder)
    if revision not in (None, contents):
        raise ModelNotUsable(
            f"{source} has the contents {contents} and {revision} was asked for: "
            "restore that version of the folder or give its new revision"
        )
    return Checkpoint(str(source), folder, contents)


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raise ``ModelNotUsable`` if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotUsable(
            f"{path} is missing: give a folder in the Stable Diffusion layout of diffusers "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelNotUsable(f"{path} cannot be read ({error}): copy the model again") from error
    if not isinstance(content, dict):
        raise ModelNotUsable(f"{path} is not a JSON object: copy the model again")
    return content


def check_layout(folder: Path) -> None:
    """Raise ``ModelNotUsable`` unless every component is there and of a kind that runs."""
    index = read_json(folder / "model_index.json")
    family = find_family(index)
    # A scheduler of any class describes the same noise schedule.
    components = family.components(index)
    for component in (*components, "scheduler"):
        _, kind = index.get(component) or (None, None)
        if kind is None or not (folder / component).is_dir():
            raise ModelNotUsable(
                f"{folder} has no {component}: give a complete Stable Diffusion folder"
            )
        if kind not in family.classes.get(component, (kind,)):
            raise ModelNotUsable(
                f"the {component} of {folder} is a {kind} and the engine runs "
                f"{' or '.join(family.classes[component])}: choose a Stable Diffusion model"
            )
    for component in family.libraries:
        if component in components and not any((folder / component).glob("*.safetensors")):
            raise ModelNotUsable(
                f"{folder / component} has no .safetensors weights: convert the model with "
                "diffusers' save_pretrained (pickled .bin weights are never loaded)"
            )


def _download(source: str, revision: str | None, local_files_only: bool) -> Path:
    """Fetch the components of a hub id into the local cache; return the snapshot's folder."""
    from diffusers import DiffusionPipeline  # takes seconds to import

    skipped = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    try:
        folder = DiffusionPipeline.download(
            source,
            revision=revision,
            local_files_only=local_files_only,
            use_safetensors=True,
            **skipped,
        )
    except (OSError, ValueError) as error:
        raise ModelUnreachable(
            f"{source!r} is neither a folder nor a hub id that can be fetched ({error}): check "
            "the name, the network and the access token, or give a folder"
        ) from error
    return Path(folder)


def _hash_files(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of all that can affect the model."""
    total = hashlib.sha256()
    candidates = [folder / "model_index.json"]
    index = read_json(folder / "model_index.json")
    for component in (*find_family(index).components(index), "scheduler"):
        candidates += (folder / component).iterdir()
    for path in sorted(candidates):
        if path.suffix in HASHED_SUFFIXES:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()
