"""`edict status`: a batch as a table, a job in full, or everything in numbers."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.markup import escape

from producer.cli.options import Home, JobOrBatch, Json, examples
from producer.cli.output import out, print_data, say, state_cell, table
from producer.text import bytes_text, seconds_text

if TYPE_CHECKING:
    from jobs.records import Batch, Job
    from producer.client import Client
    from producer.progress import Counts

EXAMPLES = examples(
    "edict status                         [dim]all jobs in numbers, and the workers[/]",
    "edict status fruit                   [dim]the jobs of a batch[/]",
    "edict status 0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10",
)


SHOWN_JOBS = 500
"""In a table; a screen has fewer lines, and a batch may have a million jobs."""


def status(
    what: JobOrBatch = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Show how things stand."""
    from producer.cli.services import open_client

    with open_client(home) as client:
        if json:
            print_data(_plain(client, what))
        elif what is None:
            _show_everything(client)
        else:
            _show(client, find(client, what))


def _plain(client: "Client", what: str | None) -> dict[str, Any]:
    """What is shown, as JSON data, and all jobs of a batch."""
    from jobs.records import Job
    from producer.plain import plain_batch, plain_job, plain_worker

    if what is None:
        alive = client.store.live_workers(seen_within=client.settings.lease_seconds)
        workers = [plain_worker(each, [], alive=True) for each in alive]
        return {"counts": counts_plain(client.store.counts()), "workers": workers}
    found = find(client, what)
    if isinstance(found, Job):
        return plain_job(found)
    counts = counts_plain(client.store.counts(found.id))
    jobs = [plain_job(each) for each in client.store.jobs_of(found.id)]
    return {**plain_batch(found), "counts": counts, "jobs": jobs}


def counts_plain(counts: "Counts") -> dict[str, int]:
    """How many jobs are in each state, as JSON data."""
    return {state.value: count for state, count in counts.items()}


def find(client: "Client", what: str) -> "Job | Batch":
    """The job of that id, else the batch of that name or id.

    Raises:
        NotFound: there is neither.
    """
    from jobs.errors import NotFound

    with suppress(ValueError, NotFound):
        return client.store.job(UUID(what))
    try:
        return client.store.batch(what)
    except NotFound:
        raise NotFound(
            f"there is no job and no batch {what!r}; `edict submit` prints both names"
        ) from None


def _show(client: "Client", found: "Job | Batch") -> None:
    from jobs.records import Job

    if isinstance(found, Job):
        _show_job(client, found)
    else:
        _show_batch(client, found)


def _show_everything(client: "Client") -> None:
    counts = table("state", "jobs")
    for state, count in client.store.counts().items():
        counts.add_row(state_cell(state), str(count))
    workers = table("worker", "device", "model", "since")
    for each in client.store.live_workers(seen_within=client.settings.lease_seconds):
        since = each.started_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        workers.add_row(escape(each.name), escape(each.device), escape(each.model), since)
    out.print(counts)
    out.print()
    out.print(workers if workers.row_count else "no worker is alive; start one: edict worker")


def _show_batch(client: "Client", batch: "Batch") -> None:
    from jobs.filters import JobFilter
    from producer.progress import counts_text

    counts = client.store.counts(batch.id)
    jobs = client.store.find(JobFilter(batch=batch.id), limit=SHOWN_JOBS)
    made = table("job", "kind", "state", "tries", "time", "prompt", "error")
    for job in jobs:
        made.add_row(
            str(job.id),
            job.kind,
            state_cell(job.state, paused=job.paused),
            str(job.attempts),
            _duration(job),
            escape(_prompt(job)),
            escape(_error(job)),
        )
    out.print(f"batch {escape(batch.name or '')} {batch.id}", highlight=False)
    if batch.paused_at is not None:
        again = escape(f"edict resume {batch.name or batch.id}")
        out.print(f"[yellow]paused[/] since {batch.paused_at}: {again}", highlight=False)
    out.print(counts_text(counts), highlight=False)
    out.print(made)
    if (total := sum(counts.values())) > len(jobs):
        say(f"the first {len(jobs)} of {total} jobs; --json prints them all")


def _show_job(client: "Client", job: "Job") -> None:
    if job.unreadable:
        out.print(f"{job.kind} {job.id} is {state_cell(job.state)}", highlight=False)
        out.print(escape(f"{job.unreadable}; `edict job {job.id}` shows it raw"), highlight=False)
        return
    shown = table("", "")
    shown.show_header = False
    for name, value in _details(client, job):
        shown.add_row(f"[bold]{name}[/]", value)
    out.print(shown)


def _details(client: "Client", job: "Job") -> list[tuple[str, str]]:
    sampler, image = job.spec.sampler, job.spec.image
    rows = [
        ("job", str(job.id)),
        ("kind", job.kind),
        ("state", state_cell(job.state, paused=job.paused) + _percent(job)),
        ("source", escape(job.spec.source.uri)),
        ("model", escape(job.spec.model.name)),
        ("from", escape(job.spec.base_prompt)),
        ("to", escape(_prompt(job))),
        (
            "sampler",
            f"{sampler.name}, {sampler.steps} steps, strength {sampler.strength:g}, "
            f"guidance {sampler.guidance_scale:g}, mix {sampler.mix:g}",
        ),
        ("image", f"{image.size or 'model size'}, {image.fit}"),
        ("priority", str(job.priority)),
        ("attempts", str(job.attempts)),
        ("worker", escape(job.worker or "")),
        ("submitted", str(job.created_at)),
        ("time", _duration(job)),
        ("error", escape(_error(job))),
        *_outcome(client, job),
    ]
    return [(name, value) for name, value in rows if value]


def _outcome(client: "Client", job: "Job") -> list[tuple[str, str]]:
    result = job.result
    if result is None:
        return []
    phases = ", ".join(f"{name} {seconds_text(took)}" for name, took in result.seconds.items())
    return [
        *(
            (role, f"{escape(client.objects.uri(output.key))} ({bytes_text(output.size)})")
            for role, output in result.outputs.items()
        ),
        ("exact", "" if result.exact is None else "yes" if result.exact else "no"),
        ("max error", "" if result.max_error is None else f"{result.max_error:g}"),
        ("psnr", "" if result.psnr is None else f"{result.psnr:.2f} dB"),
        ("noise", "found or shared" if result.inversion_reused else "computed here"),
        ("revision", escape(result.model_revision)),
        ("phases", phases),
    ]


def _prompt(job: "Job") -> str:
    return str(job.stored_spec.get("edit_prompt", ""))


def _error(job: "Job") -> str:
    if job.unreadable and not job.error_code:
        return job.unreadable
    return f"{job.error_code}: {job.error_message}" if job.error_code else ""


def _percent(job: "Job") -> str:
    running = job.finished_at is None and job.progress is not None
    return f" {job.progress:.0%}" if running else ""


def _duration(job: "Job") -> str:
    return "" if job.last_seconds is None else seconds_text(job.last_seconds)
