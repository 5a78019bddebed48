"""`GET /v1/batches/{batch}/events`: a batch's life as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response, StreamingResponse

from producer.api.events import Ends, Place, events
from producer.api.parts import TheClient, problems

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


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
    client: TheClient,
    last_event_id: Annotated[str | None, Header(description="The last event that came.")] = None,
) -> Response:
    """Follow a batch: its counts when they change, and each job's end.

    With `Last-Event-ID` it goes on from there; ends shortly before may be told again.
    """
    found = client.store.batch(batch)
    place = Place.parse(last_event_id) if last_event_id else None
    ends = Ends(client.store, found.id, place)
    if place is not None and place.over and ends.nothing_left():
        return Response(status_code=204)
    return StreamingResponse(events(client.store, found.id, ends), media_type="text/event-stream")
