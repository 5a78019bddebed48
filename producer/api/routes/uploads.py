"""`POST /v1/uploads`: an address to which an image is uploaded past this server."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from fastapi import APIRouter

from jobs.errors import InvalidInput
from jobs.store.base import utc_now
from producer.api.parts import problems
from producer.api.seen import TheView
from producer.api.shapes import UploadShape
from producer.api.submitting import audited, upload_prefix
from producer.api.wishes import UploadWish
from producer.plain import moment

UPLOAD_SECONDS = 900

router = APIRouter(prefix="/v1/uploads", tags=["jobs"])


@router.post("", status_code=201, response_model=UploadShape, responses=problems(400, 413))
def make(wish: UploadWish, seen: TheView) -> Any:
    """Get an address for an upload of exactly `size` bytes; `source` names the image in a job then.

    POST it there as a form: all `fields`, then the image as `file`. It is looked at when a job
    names it.
    """
    limit = seen.client.settings.max_source_bytes
    if wish.size > limit:
        raise InvalidInput("size", f"{wish.size} is over the limit of {limit} bytes")
    key = f"{upload_prefix(seen.tenant)}{uuid4()}"
    with audited(seen, jobs=0) as audit:
        audit.count(wish.size)
        url, fields = seen.client.objects.presigned_upload(
            key, size=wish.size, seconds=UPLOAD_SECONDS
        )
    return {
        "source": seen.client.objects.uri(key),
        "url": url,
        "fields": fields,
        "expires": moment(utc_now() + timedelta(seconds=UPLOAD_SECONDS)),
    }
