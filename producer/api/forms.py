"""The body of `POST /v1/jobs`, which comes as JSON or as a form with an image."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from jobs.errors import InvalidInput
from jobs.specs import invalid_input
from producer.api.problems import Refused
from producer.api.wishes import IMAGE, MASK, Asked, JobWish, Upload

_PARTS = {"image": IMAGE, "mask": MASK}
_MAX_JOB_BYTES = 2**18

_JOB = {"$ref": "#/components/schemas/JobWish"}
_FILE = {"type": "string", "format": "binary"}
JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _JOB,
                "example": {
                    "source": "s3://photos/cat.jpg",
                    "base_prompt": "a photo of a cat",
                    "edit_prompt": "a photo of a dog",
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["job", "image"],
                    "properties": {"job": _JOB, "image": _FILE, "mask": _FILE},
                },
                "encoding": {"job": {"contentType": "application/json"}},
            },
        },
    }
}


async def asked_job(request: Request) -> Asked:
    """Read the body.

    Raises:
        RequestValidationError, InvalidInput: name the field.
        Refused: the body is of another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Asked(_job(await request.body()))
    if kind == "multipart/form-data":
        async with request.form(
            max_files=len(_PARTS), max_fields=1, max_part_size=_MAX_JOB_BYTES
        ) as form:
            return await _from_form(form)
    detail = f"{kind!r:.80} is not read here; send application/json or multipart/form-data"
    raise Refused(415, "unsupported_media_type", detail)


async def _from_form(form: FormData) -> Asked:
    if unknown := sorted(set(form) - {"job", *_PARTS}):
        raise InvalidInput(unknown[0][:80], "is no part that is known; send job, image and mask")
    job = form.get("job")
    text = await job.read(_MAX_JOB_BYTES) if isinstance(job, UploadFile) else (job or "{}").encode()
    return Asked(
        _job(text), {_PARTS[name]: await _upload(name, form) for name in _PARTS if name in form}
    )


async def _upload(name: str, form: FormData) -> Upload:
    part = form[name]
    if not isinstance(part, UploadFile):
        raise InvalidInput(name, "is text; send it as a file, with a file name")
    return Upload(await part.read(), f"upload {part.filename or name!r:.100}")


def job_of_fields(given: Mapping[str, str], *, priority: int) -> JobWish:
    """The edit that a form of a page asks for.

    Raises:
        InvalidInput: names the first field that is wrong.
    """
    sampler = {
        "name": given.get("sampler", ""),
        "steps": given.get("steps", ""),
        "strength": given.get("strength", ""),
        "guidance_scale": given.get("guidance", ""),
    }
    fields: dict[str, Any] = {
        "base_prompt": given.get("base_prompt", ""),
        "edit_prompt": given.get("edit_prompt", ""),
        "sampler": {name: value for name, value in sampler.items() if value},
        "priority": priority,
    }
    if given.get("model"):
        fields["model"] = given["model"]
    try:
        return JobWish.model_validate(fields)
    except ValidationError as error:
        raise invalid_input(error) from None


def _job(text: bytes) -> JobWish:
    try:
        return JobWish.model_validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise HTTPException(400, f"the job is no JSON: {error.errors()[0]['msg']}") from None
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None
