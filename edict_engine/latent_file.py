"""Inversions as safetensors: self-describing, without pickle, the same bytes for the same content.

The file holds three int64 tensors of shape (C, H, W), ``image``, ``x`` and ``y`` (fixed point of
scale 2**32, see ``fixed_point``), and one metadata entry, ``edict``, with everything else as JSON:
sampler parameters, prompt, model, schedule, rung, fingerprint, and a SHA-256 over the tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edict_engine.errors import EngineError, LatentFileError
from edict_engine.fixed_point import SCALE, LatentPair
from edict_engine.parameters import SamplerParameters

#: Raise it when a reader of the old format would misread the new one.
FORMAT = 1
_ENTRY = "edict"
_HEADER_LIMIT = 2**20
_TEXTS = ("prompt", "model_name", "model_revision", "fingerprint")


@dataclass(frozen=True, eq=False)
class Inversion:
    """An image inverted to noise, and all that it takes to use it or to prove it exact.

    ``image`` is the quantised latent that both members started from, ``pair`` where they arrived;
    int64, (C, H, W), on the CPU. ``rung`` and ``fingerprint`` say under what numeric conditions:
    a generation at the same ones returns to ``image`` bit for bit. ``schedule`` is plain data from
    ``NoiseSchedule.describe``.
    """

    image: Tensor
    pair: LatentPair
    parameters: SamplerParameters
    prompt: str
    model_name: str
    model_revision: str
    schedule: Mapping[str, Any]
    rung: int
    fingerprint: str


def save_inversion(inversion: Inversion) -> bytes:
    """Return ``inversion`` as a safetensors file."""
    tensors = {"image": inversion.image, "x": inversion.pair.x, "y": inversion.pair.y}
    # Cloned, since safetensors refuses tensors that share memory, as the members of a pair may.
    tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = {
        "format": FORMAT,
        "scale": SCALE,
        "parameters": asdict(inversion.parameters),
        "schedule": dict(inversion.schedule),
        "rung": inversion.rung,
        "sha256": _digest(tensors),
        **{name: getattr(inversion, name) for name in _TEXTS},
    }
    # One entry only: safetensors writes several in random order.
    return safetensors.torch.save(tensors, {_ENTRY: json.dumps(content, sort_keys=True)})


def load_inversion(data: bytes) -> Inversion:
    """Read what ``save_inversion`` wrote.

    Raises ``LatentFileError`` if ``data`` is something else, damaged, or of another format.
    """
    try:
        content = _read_metadata(data)
        tensors = safetensors.torch.load(data)
        _check(content, tensors)
        return Inversion(
            image=tensors["image"],
            pair=LatentPair(tensors["x"], tensors["y"]),
            parameters=SamplerParameters(**content["parameters"]),
            schedule=dict(content["schedule"]),
            rung=int(content["rung"]),
            **{name: str(content[name]) for name in _TEXTS},
        )
    except LatentFileError:
        raise
    except (EngineError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LatentFileError(
            f"the bytes are not an intact inversion ({error!r}): invert the image again"
        ) from error


def _read_metadata(data: bytes) -> dict[str, Any]:
    """Parse the header (8 bytes of length, then JSON); safetensors reads it from files only."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(len(data), _HEADER_LIMIT):
        raise LatentFileError("the bytes are not a safetensors file: invert the image again")
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_ENTRY])
    if content["format"] != FORMAT or content["scale"] != SCALE:
        raise LatentFileError(
            f"the inversion has format {content['format']} and this version reads {FORMAT}: "
            "upgrade, or invert the image again"
        )
    return dict(content)


def _check(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    shapes = {tensors[name].shape for name in ("image", "x", "y")}
    kinds = {tensor.dtype for tensor in tensors.values()}
    if len(shapes) != 1 or len(*shapes) != 3 or kinds != {torch.int64}:
        raise LatentFileError(
            f"the inversion holds {kinds} of shapes {shapes}, not three int64 (C, H, W): "
            "invert the image again"
        )
    if content["sha256"] != _digest(tensors):
        raise LatentFileError("the latents are damaged (wrong SHA-256): invert the image again")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in ("image", "x", "y"):
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()
