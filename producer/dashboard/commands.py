"""A job as the command that submits it again, and as the body of a request."""

import json
import shlex
from typing import Any

from jobs.records import Job
from jobs.specs import EditSpec, InversionSpec, SamplerOptions, Source, Spec

_COMMANDS = {"edit": "edit", "inversion": "invert", "reconstruction": "reconstruct"}
_SAMPLER = {
    "name": "--sampler",
    "steps": "--steps",
    "strength": "--strength",
    "guidance_scale": "--guidance",
    "mix": "--mix",
    "gamma": "--gamma",
    "guidance_rescale": "--guidance-rescale",
    "guidance_interval": "--guidance-interval",
}


def as_json(job: Job) -> str:
    """The body of `POST /v1/jobs` that asks for the same."""
    spec = job.spec
    plain = spec.model_dump(mode="json", exclude_defaults=True, exclude={"source", "model"})
    body: dict[str, Any] = {"kind": spec.kind, "source": spec.source.uri, **plain}
    body["model"] = spec.model.label
    if isinstance(spec, EditSpec) and isinstance(spec.mask, Source):
        body["mask"] = spec.mask.uri
    return json.dumps(body, indent=2, ensure_ascii=False)


def as_command(job: Job) -> str:
    """The `edict submit` that asks for the same, quoted for a shell.

    What the command line has no option for (a sampler's seed, the sizes that SDXL is told, the rows
    of a batch) is left out.
    """
    spec = job.spec
    parts = ["edict", "submit", _COMMANDS[spec.kind], spec.source.uri]
    parts += ["--from", spec.base_prompt, *_of_edit(spec), *_of_sampler(spec.sampler)]
    parts += ["--model", spec.model.label]
    if spec.image.size is not None:
        parts += ["--size", str(spec.image.size)]
    if spec.image.fit != "crop":
        parts += ["--fit", spec.image.fit]
    return shlex.join(parts)


def _of_edit(spec: Spec) -> list[str]:
    parts: list[str] = []
    if isinstance(spec, EditSpec):
        parts += ["--to", spec.edit_prompt]
        if spec.negative_prompt:
            parts += ["--negative", spec.negative_prompt]
        if spec.edit_guidance_scale is not None:
            parts += ["--edit-guidance", f"{spec.edit_guidance_scale:g}"]
        if spec.mask is not None:
            parts += ["--mask", spec.mask if isinstance(spec.mask, str) else spec.mask.uri]
        if spec.keep_pixels:
            parts.append("--keep-pixels")
        if spec.attention_control:
            parts.append("--attention-control")
    if not isinstance(spec, InversionSpec) and spec.output.format != "png":
        parts += ["--format", spec.output.format]
        if spec.output.quality is not None:
            parts += ["--quality", str(spec.output.quality)]
    return parts


def _of_sampler(sampler: SamplerOptions) -> list[str]:
    parts: list[str] = []
    for name, option in _SAMPLER.items():
        value = getattr(sampler, name)
        if value != SamplerOptions.model_fields[name].default:
            values = value if isinstance(value, tuple) else (value,)
            parts += [option, *map(str, values)]
    return parts
