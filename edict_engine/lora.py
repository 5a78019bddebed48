"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685), fused into a model's weights when it is loaded.

What runs afterwards is one fixed network, as if it had been trained so: no row costs more, and a
round trip is as exact as without. An adapter is therefore part of the model, not of a job: its
contents and its scale go into the model's revision, and with that into every inversion's key.

Files are read by diffusers (its own layout and that of kohya) and fused by peft. Unlike both, every
tensor of a file must find its place: one that is left over would be a change that nobody sees.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edict_engine.errors import ModelNotFound, ModelNotUsable, ModelUnreachable, ParameterError
from edict_engine.families import Family

#: The file that diffusers writes an adapter to.
STANDARD_FILE = "pytorch_lora_weights.safetensors"
#: Larger scales are slips of the pen: adapters are made for 1.
MAX_SCALE = 10.0
#: Hexadecimal digits of the adapters' digest in a revision.
DIGITS = 32
HUB_ID_PARTS = 2
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Adapter:
    """An adapter to fuse: a file, a folder that holds one, or a hub id ``owner/name[/file]``.

    ``revision``: the commit of a hub id, which must be pinned. ``scale``: how much of it; 1 as it
    was trained, negative away from it.
    """

    source: str
    scale: float = 1.0
    revision: str | None = None


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter's file, with the SHA-256 of its contents."""

    file: Path
    sha256: str
    scale: float


def find_adapters(
    adapters: Sequence[Adapter], *, local_files_only: bool = False
) -> list[FoundAdapter]:
    """Return the files of ``adapters``, read once from end to end; no weight is loaded yet.

    Raises ``ModelNotFound``, ``ModelUnreachable``, ``ModelNotUsable`` or ``ParameterError``.
    """
    found = []
    for adapter in adapters:
        if not (math.isfinite(adapter.scale) and 0 < abs(adapter.scale) <= MAX_SCALE):
            raise ParameterError(
                f"the LoRA {adapter.source} has the scale {adapter.scale:g}: give one from "
                f"-{MAX_SCALE:g} to {MAX_SCALE:g} other than 0, usually 0.5 to 1"
            )
        file = _find_file(adapter, local_files_only)
        if file.suffix != SUFFIX:
            raise ModelNotUsable(
                f"the LoRA {file} is no {SUFFIX} file: convert it with safetensors' save_file "
                "(pickled weights are never loaded)"
            )
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        found.append(FoundAdapter(file, digest, float(adapter.scale)))
    return found


def revision_with(revision: str, adapters: Sequence[FoundAdapter]) -> str:
    """Name the contents of a model at ``revision`` with ``adapters`` fused into it, in order."""
    if not adapters:
        return revision
    parts = json.dumps([(adapter.sha256, adapter.scale) for adapter in adapters])
    return f"{revision}+{hashlib.sha256(parts.encode()).hexdigest()[:DIGITS]}"


def fuse_adapters(family: Family, adapters: Sequence[FoundAdapter]) -> None:
    """Add ``adapters`` to the weights of the family's networks, one after the other.

    Raises ``ModelNotUsable`` for one that was not made for this kind of model.
    """
    if not adapters:
        return
    pipeline = _pipeline(family)
    for adapter in adapters:
        try:
            _fuse(pipeline, adapter)
        except (KeyError, OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise ModelNotUsable(
                f"the LoRA {adapter.file} does not fit {type(family).__name__} of this size "
                f"({str(error)[:300]}): choose one that was trained on this model's base"
            ) from error


def _find_file(adapter: Adapter, local_files_only: bool) -> Path:
    path = Path(adapter.source)
    if path.is_file():
        return path
    if path.is_dir():
        return _only_file(path)
    if path.is_absolute() or len(path.parts) < HUB_ID_PARTS or adapter.source.startswith("."):
        raise ModelNotFound(
            f"the LoRA {adapter.source} is neither a file, a folder nor a hub id: check the path"
        )
    return _download(adapter, local_files_only)


def _only_file(folder: Path) -> Path:
    standard, files = folder / STANDARD_FILE, sorted(folder.glob(f"*{SUFFIX}"))
    if standard in files:
        return standard
    if len(files) != 1:
        raise ModelNotUsable(
            f"the LoRA folder {folder} holds {len(files)} {SUFFIX} files, none of them "
            f"{STANDARD_FILE}: name the file itself"
        )
    return files[0]


def _download(adapter: Adapter, local_files_only: bool) -> Path:
    from huggingface_hub import hf_hub_download  # takes seconds to import

    if adapter.revision is None:
        raise ModelNotUsable(
            f"the LoRA {adapter.source} is no local file, and as a hub id it names no revision: "
            f"check the path, or pin its commit, {adapter.source}@COMMIT"
        )
    parts = Path(adapter.source).parts
    repository = "/".join(parts[:HUB_ID_PARTS])
    name = "/".join(parts[HUB_ID_PARTS:]) or STANDARD_FILE
    try:
        file = hf_hub_download(
            repository, name, revision=adapter.revision, local_files_only=local_files_only
        )
    except (OSError, ValueError) as error:
        raise ModelUnreachable(
            f"the LoRA {name} of {repository}@{adapter.revision} cannot be fetched ({error}): "
            "check the name, the network and the access token, or give a file"
        ) from error
    return Path(file)


def _pipeline(family: Family) -> Any:
    """Return diffusers' own pipeline of the family's networks; its loader knows all layouts."""
    import diffusers  # takes seconds to import

    kind = getattr(diffusers, family.pipeline)
    names = inspect.signature(kind).parameters
    parts = {name: getattr(family.networks, name) for name in family.classes if name in names}
    extra: dict[str, Any] = dict.fromkeys(
        name for name in ("safety_checker", "feature_extractor") if name in names
    )
    if "requires_safety_checker" in names:
        extra["requires_safety_checker"] = False
    return kind(**parts, **extra, scheduler=_any_scheduler(flow="transformer" in parts))


def _any_scheduler(*, flow: bool) -> Any:
    """Loaders ask for no scheduler, constructors do; the values are those that they do not mend."""
    import diffusers  # takes seconds to import

    if flow:
        return diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def _fuse(pipeline: Any, adapter: FoundAdapter) -> None:
    _check_header(adapter.file)
    pipeline.load_lora_weights(
        adapter.file.parent,
        weight_name=adapter.file.name,
        adapter_name="adapter",
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,
    )
    _check_all_used(pipeline, adapter.file)
    touched = [part for part in pipeline._lora_loadable_modules if _tensors_of(pipeline, part)]
    pipeline.fuse_lora(components=touched, lora_scale=adapter.scale, safe_fusing=True)
    pipeline.unload_lora_weights()


def _check_header(file: Path) -> None:
    """Raise ``ValueError`` if the file holds no adapter; its header is enough to tell."""
    with safe_open(file, "pt") as opened:
        names = list(opened.keys())
    if not names:
        raise ValueError("it holds no tensors")
    if others := [name for name in names if "lora" not in name and "alpha" not in name]:
        raise ValueError(f"it holds {others[0]}, which is no part of a LoRA")


def _check_all_used(pipeline: Any, file: Path) -> None:
    """Raise ``ValueError`` unless the networks took exactly the tensors of the file."""
    config = pipeline.unet.config if hasattr(pipeline, "unet") else None
    options = {} if config is None else {"unet_config": config}
    read = pipeline.lora_state_dict(
        file.parent,
        weight_name=file.name,
        use_safetensors=True,
        local_files_only=True,
        **options,
    )
    # Pipelines with a UNet give the network's alphas beside the tensors.
    held = read if isinstance(read, Mapping) else read[0]
    weights = [value for key, value in held.items() if not key.endswith("alpha")]
    taken = [
        (name, value)
        for part in pipeline._lora_loadable_modules
        for name, value in _tensors_of(pipeline, part).items()
    ]
    if len(taken) != len(weights):
        raise ValueError(
            f"it holds {len(weights)} matrices and the model has places for {len(taken)}"
        )
    # By value: every layout has names of its own, and a place that got nothing holds zeros.
    known = {(dtype, _digest(w, dtype)) for dtype in {v.dtype for _, v in taken} for w in weights}
    for name, value in taken:
        if (value.dtype, _digest(value, value.dtype)) not in known:
            raise ValueError(f"it holds nothing for {name}")


def _digest(tensor: Tensor, dtype: torch.dtype) -> bytes:
    plain = tensor.detach().cpu().to(dtype).contiguous()
    return (
        hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).digest()
        + str(plain.shape).encode()
    )


def _tensors_of(pipeline: Any, part: str) -> Mapping[str, Tensor]:
    """Return the adapter's own parameters that were put into one network, by name."""
    network = getattr(pipeline, part, None)
    if network is None:
        return {}
    return {key: value for key, value in network.named_parameters() if ".lora_" in key}
