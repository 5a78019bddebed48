"""What is asked of the server and what its answers mean; who sends it is nobody's business here.

A call is a generator: it yields a `Request`, is sent the answer's `Reply`, and returns what the
caller wanted. One client sends requests and waits, the other awaits; neither knows more.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from jobs.errors import (
    AccessDenied,
    InvalidInput,
    JobsError,
    NotFound,
    ObjectNotFound,
    ServiceUnavailable,
)
from jobs.filters import JobFilter
from jobs.keys import sha256
from jobs.records import Batch, Job, Submission
from jobs.specs import EditSpec, Source, Spec
from jobs.states import State
from producer.api.wishes import MAX_BATCH_ROWS, RowWish

PAGE = 200
_CLOSED = (401, 403)
_TIMES = ("submitted", "due", "queued", "started", "finished", "lease_until")


@dataclass(frozen=True)
class Request:
    """A request; a `url` with a host goes there, and without our key."""

    method: str
    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    form: Mapping[str, str] | None = None
    file: bytes | None = None
    """What is uploaded, after the fields of `form`."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    content: bytes

    def json(self) -> Any:
        """Its content, read."""
        return json.loads(self.content)


@dataclass(frozen=True)
class ResultFile:
    """A file that a job made; `url` gives it to anybody, until it expires."""

    role: str
    key: str
    sha256: str
    size: int
    url: str
    expires: datetime


T = TypeVar("T")
Call = Generator[Request, Reply, T]


def ask(
    method: str, url: str, *, params: Mapping[str, Any] | None = None, body: Any = None
) -> Call[Any]:
    """One request of the API, safe to repeat; returns the answer's JSON.

    Raises:
        InvalidInput, NotFound, AccessDenied, ServiceUnavailable: as the answer says.
    """
    headers = {"Idempotency-Key": str(uuid4())} if method == "POST" else {}
    reply = yield Request(method, url, params or {}, body, headers=headers)
    if reply.status >= 400:
        raise error_of(reply)
    return reply.json()


def error_of(reply: Reply) -> JobsError:
    """What the in-process client would have raised."""
    try:
        problem = reply.json()
        detail, errors = str(problem["detail"]), problem.get("errors") or []
    except (ValueError, KeyError, TypeError):
        return ServiceUnavailable(f"the server answered {reply.status}, and no problem document")
    if reply.status == 404:
        return ObjectNotFound(detail) if problem["code"] == "object_not_found" else NotFound(detail)
    if reply.status in _CLOSED:
        return AccessDenied(detail)
    if reply.status == 429 or reply.status >= 500:
        return ServiceUnavailable(detail)
    if errors:
        return InvalidInput(errors[0]["field"], errors[0]["detail"])
    return InvalidInput("request", detail)


def upload(data: bytes) -> Call[Source]:
    """Bring an image to the bucket."""
    place = yield from ask("POST", "/v1/uploads", body={"size": len(data)})
    reply = yield Request("POST", place["url"], form=place["fields"], file=data)
    if reply.status >= 400:
        raise ServiceUnavailable(f"the bucket answered {reply.status} to an upload; try again")
    return Source(uri=place["source"], sha256=sha256(data))


def submit(
    specs: Sequence[Spec],
    *,
    batch: str | None,
    priority: int,
    force: bool,
    webhook: str | None,
    batch_webhook: str | None,
) -> Call[list[Submission]]:
    """Submit specs, in the order given; of a batch, so many at once as the server takes."""
    common = {"priority": priority, "force": force}
    made: list[Submission] = []
    if batch is None or webhook is not None:
        for spec in specs:
            body = {**_row(spec), **common, "model": spec.model.label}
            body |= {} if batch is None else {"batch": batch}
            body |= {} if webhook is None else {"webhook": webhook}
            made.append(_submission((yield from ask("POST", "/v1/jobs", body=body))))
        return made
    for model in dict.fromkeys(spec.model.label for spec in specs):
        # Those of one model go together; the order is put right below.
        these = [spec for spec in specs if spec.model.label == model]
        for start in range(0, len(these), MAX_BATCH_ROWS):
            rows = [_row(spec) for spec in these[start : start + MAX_BATCH_ROWS]]
            body = {"name": batch, "rows": rows, "model": model, **common}
            body |= {} if batch_webhook is None else {"webhook": batch_webhook}
            answer = yield from ask("POST", "/v1/batches", body=body)
            made += map(_submission, answer["jobs"])
    order = sorted(range(len(specs)), key=lambda at: _first_of(specs, at))
    back = dict(zip(order, made, strict=True))
    return [back[at] for at in range(len(specs))]


def _first_of(specs: Sequence[Spec], at: int) -> int:
    """Where the model of a spec comes up first: the place of its group."""
    label = specs[at].model.label
    return next(index for index, spec in enumerate(specs) if spec.model.label == label)


def _row(spec: Spec) -> dict[str, Any]:
    plain = spec.model_dump(mode="json", exclude_unset=True, include=set(RowWish.model_fields))
    plain |= {"kind": spec.kind, "source": spec.source.uri}
    if isinstance(spec, EditSpec) and isinstance(spec.mask, Source):
        plain["mask"] = spec.mask.uri
    return plain


def _submission(plain: Mapping[str, Any]) -> Submission:
    return Submission(UUID(plain["id"]), State(plain["state"]), plain["created"])


def job(job_id: UUID) -> Call[Job]:
    """Read one job."""
    return job_of((yield from ask("GET", f"/v1/jobs/{job_id}")))


def jobs(which: JobFilter, limit: int | None) -> Call[list[Job]]:
    """The jobs that a filter means, newest first."""
    params = _params(which)
    found: list[Job] = []
    while limit is None or len(found) < limit:
        params["limit"] = PAGE if limit is None else min(PAGE, limit - len(found))
        page = yield from ask("GET", "/v1/jobs", params=params)
        found += map(job_of, page["items"])
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    return found


def failed(which: JobFilter | None) -> JobFilter:
    """Those of a filter that failed."""
    return replace(which or JobFilter(), states=(State.FAILED,))


def _params(which: JobFilter) -> dict[str, Any]:
    given = {
        "batch": None if which.batch is None else str(which.batch),
        "state": [state.value for state in which.states] or None,
        "kind": which.kind,
        "code": which.code,
        "model": which.model,
        "prompt": which.prompt,
        "mark": which.mark,
        "flagged": which.flagged,
        "where": [each.written for each in which.figures],
    }
    return {name: value for name, value in given.items() if value is not None}


def steer_jobs(method: str, job_ids: Sequence[UUID], what: str) -> Call[int]:
    """Cancel or retry jobs, one by one; says how many were still to be."""
    count = 0
    for job_id in job_ids:
        before = yield from job(job_id)
        try:
            after = yield from ask(method, f"/v1/jobs/{job_id}{what}")
        except InvalidInput:
            # It ended otherwise meanwhile: nothing is to be done.
            continue
        count += before.state != after["state"]
    return count


def batch(name_or_id: str) -> Call[Batch]:
    """Find a batch."""
    return batch_of((yield from ask("GET", f"/v1/batches/{name_or_id}")))


def steer_batch(name_or_id: str, what: str) -> Call[Batch]:
    """Pause or resume a batch."""
    return batch_of((yield from ask("POST", f"/v1/batches/{name_or_id}/{what}")))


def counts(name_or_id: str) -> Call[dict[State, int]]:
    """How many of a batch's jobs are in each state."""
    plain = yield from ask("GET", f"/v1/batches/{name_or_id}")
    return {State(name): count for name, count in plain["counts"].items()}


def results(job_id: UUID) -> Call[list[ResultFile]]:
    """The files that a job made."""
    plain = yield from ask("GET", f"/v1/jobs/{job_id}/results")
    return [
        ResultFile(**each | {"expires": datetime.fromisoformat(each["expires"])})
        for each in plain["items"]
    ]


def download(file: ResultFile) -> Call[bytes]:
    """A file's bytes, compared with what the job wrote."""
    reply = yield Request("GET", file.url)
    if reply.status >= 400:
        raise ServiceUnavailable(f"the bucket answered {reply.status} for {file.key}; ask again")
    if sha256(reply.content) != file.sha256:
        raise ServiceUnavailable(f"{file.key} came with other bytes than the job wrote")
    return reply.content


def job_of(plain: Mapping[str, Any]) -> Job:
    """A job as its row says."""
    times = {name: _moment(plain["times"][name]) for name in _TIMES}
    error = plain["error"] or {}
    return Job(
        id=UUID(plain["id"]),
        kind=plain["kind"],
        stored_spec=plain["spec"],
        model=plain["model"],
        priority=plain["priority"],
        state=State(plain["state"]),
        paused=plain["paused"],
        created_at=_known(times["submitted"]),
        due_at=_known(times["due"]),
        queued_at=times["queued"],
        started_at=times["started"],
        finished_at=times["finished"],
        attempts=plain["attempts"],
        worker=plain["worker"],
        lease_until=times["lease_until"],
        progress=plain["progress"],
        error_code=error.get("code"),
        error_message=error.get("message"),
        stored_result=plain["result"],
    )


def batch_of(plain: Mapping[str, Any]) -> Batch:
    """A batch as its row says."""
    created = _known(_moment(plain["created"]))
    return Batch(UUID(plain["id"]), plain["name"], created, _moment(plain["paused"]))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _known(when: datetime | None) -> datetime:
    if when is None:
        raise ServiceUnavailable("the server's answer lacks a time; is it of another version?")
    return when
