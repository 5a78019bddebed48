"""`GET /v1/batches/{batch}/events`: a batch's life as server-sent events."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from jobs.store.base import utc_now
from producer.api.events import Ends, Permission, Place, events
from producer.api.parts import problems
from producer.api.seen import TheView

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_PLACES: dict[str, Callable[[], Place | None]] = {
    "first": lambda: None,
    "now": lambda: Place(utc_now()),
}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["progress", "job", "end"]},
        "data": {"type": "string", "description": "JSON."},
        "id": {"type": "string"},
    },
}
_STREAM = {"text/event-stream": {"schema": _EVENT}}


@router.get(
    "/{batch}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": _STREAM, "description": "`progress`, `job` and `end` events."},
        204: {"description": "All was told before, and nothing is to come."},
        **problems(404),
    },
)
def follow(
    batch: str,
    seen: TheView,
    request: Request,
    last_event_id: Annotated[str | None, Header(description="The last event that came.")] = None,
    start: Annotated[
        Literal["first", "now"], Query(description="Where to start without `Last-Event-ID`.")
    ] = "first",
) -> Response:
    """Follow a batch: its counts when they change, and each job's end.

    With `Last-Event-ID` it goes on from there; ends shortly before may be told again. It breaks
    off within seconds when the key is revoked or expires.
    """
    found = seen.batch(batch)
    place = Place.parse(last_event_id) if last_event_id else _PLACES[start]()
    ends = Ends(seen.store, found.id, place)
    if place is not None and place.over and ends.nothing_left():
        return Response(status_code=204)
    stream = events(request.app.state.counts, found.id, ends, Permission(seen.may_still_look))
    return StreamingResponse(stream, media_type="text/event-stream")
