"""The pages, and the forms on them. A form answers with the page where its effect is seen."""

from pathlib import PurePosixPath
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from jobs.errors import InvalidInput
from jobs.filters import Order
from jobs.gates import Condition
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.marks import Verdict
from jobs.states import LIVE, State
from producer.api.forms import job_of_fields
from producer.api.problems import Refused
from producer.api.seen import Seen, TheView
from producer.api.submitting import submit_job
from producer.api.wishes import IMAGE, Asked, Upload
from producer.dashboard import views
from producer.dashboard.again import compared, make_again
from producer.dashboard.commands import as_command, as_json
from producer.dashboard.pictures import Pictures, What
from producer.dashboard.rendering import FOLDER, page
from producer.dashboard.running import MEDIA_TYPE, look_at, preview_of
from producer.text import bytes_text

KEPT_SECONDS = 86_400
"""How long browsers keep a picture: what a job made never changes."""

_STATIC = {path.name: path.read_bytes() for path in sorted((FOLDER / "static").iterdir())}
_TYPES = {".css": "text/css", ".js": "text/javascript"}

_FLAGGED = {"yes": True, "no": False}
_ORDERS = {
    "": "newest",
    Order.OLDEST: "oldest",
    Order.PSNR: "lowest PSNR",
    Order.PSNR_DOWN: "highest PSNR",
    Order.SIMILARITY: "least similar",
    Order.SIMILARITY_DOWN: "most similar",
    Order.MASK_AREA: "smallest mask",
    Order.MASK_AREA_DOWN: "largest mask",
}
"""As the gallery calls them."""

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """What pages are made of."""
    if name not in _STATIC:
        raise Refused(404, "not_found", f"there is no file {name!r:.80}")
    media_type = _TYPES[PurePosixPath(name).suffix]
    return Response(_STATIC[name], media_type=media_type, headers={"Cache-Control": "no-cache"})


@router.get("/")
def index(
    seen: TheView, cursor: UUID | None = None, note: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Everything at a glance."""
    rows, more = views.batch_rows(seen, cursor)
    return page(
        "index.html",
        caller=seen.caller,
        rows=rows,
        next=more,
        first=cursor is None,
        note=note,
        **views.overview(seen),
    )


@router.get("/batches/{batch:path}")
def gallery(
    request: Request,
    batch: str,
    seen: TheView,
    prompt: Annotated[str, Query(max_length=500)] = "",
    state: str = "",
    kind: str = "",
    mark: str = "",
    code: str = "",
    flagged: str = "",
    where: Annotated[str, Query(max_length=500)] = "",
    order: str = "",
    cursor: UUID | None = None,
) -> Response:
    """A batch: how far it is, and its jobs as a grid."""
    found = seen.batch(batch)
    first = next(iter(_one(Order, "order", order)), Order.NEWEST)
    which = seen.jobs(
        batch=found.id,
        states=_one(State, "state", state),
        kind=kind or None,
        code=code or None,
        prompt=prompt or None,
        mark=next(iter(_one(Verdict, "mark", mark)), None),
        flagged=_FLAGGED.get(flagged),
        figures=tuple(map(Condition.parse, where.split())),
    )
    cards, more = views.cards(seen, which, cursor, first)
    following = request.url.include_query_params(cursor=str(more)) if more else None
    return page(
        "batch.html",
        caller=seen.caller,
        row=views.row_of(seen, found, seen.store.counts(found.id)),
        failures=seen.store.failures_of(found.id),
        cards=cards,
        next=None if following is None else f"{following.path}?{following.query}",
        orders=_ORDERS,
        chosen={
            "prompt": prompt,
            "state": state,
            "kind": kind,
            "mark": mark,
            "code": code,
            "flagged": flagged,
            "where": where,
            "order": order,
        },
    )


def _one(kind: Any, field: str, value: str) -> tuple[Any, ...]:
    if not value:
        return ()
    if value not in set(kind):
        raise InvalidInput(field, f"{value!r:.80} is none of {', '.join(kind)}")
    return (kind(value),)


@router.post("/batches/{batch}/{what}")
def steer_batch(batch: str, what: str, seen: TheView) -> Response:
    """Pause, resume, cancel, or try again what failed."""
    found = seen.batch(batch)
    match what:
        case "pause":
            seen.client.pause(str(found.id))
        case "resume":
            seen.client.resume(str(found.id))
        case "cancel":
            seen.client.cancel(seen.jobs(batch=found.id))
        case "retry":
            seen.client.retry(seen.jobs(batch=found.id, states=(State.FAILED,)))
        case _:
            raise Refused(404, "not_found", f"{what!r:.80} is nothing that is done to batches")
    return RedirectResponse(f"/batches/{found.id}", 303)


@router.get("/jobs/{job_id}")
def show_job(job_id: UUID, seen: TheView, batch: str = "", repeats: UUID | None = None) -> Response:
    """A job: before and after, all that is known of it, and how it compares to what it repeats."""
    job = seen.job(job_id)
    batches = views.batches_of(seen, job)
    within = next((row for row in batches if str(row.batch.id) == batch), None)
    here = within or next(iter(batches), None)
    readable = job.unreadable is None
    first = None if repeats is None else seen.job(repeats)
    return page(
        "job.html",
        caller=seen.caller,
        batches=batches,
        here=here,
        is_live=job.state in LIVE,
        first=first,
        verdict=first and compared(seen, job, first),
        running=look_at(seen.client, job),
        command=as_command(job) if readable else "",
        body=as_json(job) if readable else "",
        bytes_text=bytes_text,
        **views.neighbours(seen, job, here.batch if here else None),
        **views.details(seen, job),
    )


@router.get("/jobs/{job_id}/preview")
def preview(job_id: UUID, seen: TheView) -> Response:
    """What an edit that runs looks like now; once it has ended, what became of it."""
    data = preview_of(seen.client, seen.job(job_id).id)
    if data is None:
        # It ended after its page was made; asked again, for it may have ended just now.
        what = "image" if seen.job(job_id).state == State.SUCCEEDED else "original"
        return RedirectResponse(f"/jobs/{job_id}/pictures/{what}?size=512", 303)
    return Response(data, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.get("/jobs/{job_id}/pictures/{what}")
def picture(
    job_id: UUID,
    what: What,
    seen: TheView,
    size: Annotated[int | None, Query(ge=16, le=1_024)] = None,
) -> Response:
    """A picture of a job, small if `size` says so."""
    data, media_type = Pictures(seen.client, seen.job(job_id)).picture(what, size)
    kept = {"Cache-Control": f"private, max-age={KEPT_SECONDS}, immutable"}
    return Response(data, media_type=media_type, headers=kept)


@router.post("/jobs/{job_id}/mark")
async def mark(job_id: UUID, request: Request, seen: TheView) -> Response:
    """Approve or reject a result, or take that back."""
    async with request.form(max_files=0, max_fields=2) as form:
        said = str(form.get("verdict", ""))
    await run_in_threadpool(_mark, seen, job_id, next(iter(_one(Verdict, "verdict", said)), None))
    return RedirectResponse(f"/jobs/{job_id}", 303)


def _mark(seen: Seen, job_id: UUID, verdict: Verdict | None) -> None:
    seen.store.mark(seen.job(job_id).id, verdict, seen.caller.name)


@router.post("/jobs/{job_id}/reproduce")
def reproduce(job_id: UUID, seen: TheView) -> Response:
    """Make a result again from its own recipe, to see whether it comes out the same."""
    made = make_again(seen, seen.job(job_id))
    return RedirectResponse(f"/jobs/{made.job_id}?repeats={job_id}", 303)


@router.post("/jobs/{job_id}/retry")
def retry(job_id: UUID, seen: TheView) -> Response:
    """Give a job that failed or was cancelled a new life."""
    seen.client.retry([seen.job(job_id).id])
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: UUID, seen: TheView) -> Response:
    """Cancel a job."""
    seen.client.cancel([seen.job(job_id).id])
    return RedirectResponse(f"/jobs/{job_id}", 303)


_NOTHING = {
    "base_prompt": "",
    "edit_prompt": "",
    "model": "",
    "sampler": "edict",
    "steps": "50",
    "strength": "0.8",
    "guidance": "3",
}


@router.get("/try")
def try_(seen: TheView) -> Response:
    """The form to try an edit."""
    return _try_page(seen, _NOTHING, "")


def _try_page(seen: Seen, given: dict[str, str], problem: str) -> Response:
    status = 422 if problem else 200
    models = seen.client.settings.models
    return page("try.html", status, caller=seen.caller, given=given, problem=problem, models=models)


@router.post("/try")
async def try_it(request: Request, seen: TheView) -> Response:
    """Submit what the form says, before all bulk work."""
    async with request.form(max_files=1, max_fields=12, max_part_size=2**16) as form:
        given = {name: str(value) for name, value in form.items() if isinstance(value, str)}
        image = form.get("image")
        data = b"" if image is None or isinstance(image, str) else await image.read()
    return await run_in_threadpool(_try, seen, _NOTHING | given, data)


def _try(seen: Seen, given: dict[str, str], data: bytes) -> Response:
    try:
        wish = job_of_fields(given, priority=INTERACTIVE_PRIORITY)
        made = submit_job(seen, Asked(wish, {IMAGE: Upload(data, "the image")}))
    except (InvalidInput, Refused) as error:
        problem = error.detail if isinstance(error, Refused) else str(error)
        return _try_page(seen, given, problem)
    return RedirectResponse(f"/jobs/{made.job_id}", 303)
