"""What came of the demo, in figures: for the terminal and for the head of the gallery."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.markup import escape
from rich.table import Table

from jobs.objects import ObjectStore
from jobs.records import Job
from jobs.specs import EditSpec, ReconstructionSpec
from jobs.states import State
from producer.admission import Refusal
from producer.gallery import Summary
from producer.text import bytes_text, seconds_text


@dataclass(frozen=True)
class Outcome:
    """The jobs as they ended, the rows that were refused, and the time it took."""

    jobs: Sequence[Job]
    refused: Sequence[Refusal]
    seconds: float | None
    """None: everything was done before."""

    @property
    def succeeded(self) -> bool:
        """Whether every wish was granted."""
        return not self.refused and all(job.state == State.SUCCEEDED for job in self.jobs)

    @property
    def failed(self) -> list[Job]:
        """The jobs that ended otherwise."""
        return [job for job in self.jobs if job.state != State.SUCCEEDED]


def states_table(jobs: Sequence[Job]) -> Table:
    """How many jobs ended how, their median time and what they stored."""
    made = Table("state", "jobs", "median seconds", "bytes stored", box=None, pad_edge=False)
    for state in State:
        ended = [job for job in jobs if job.state == state]
        if ended or state in (State.SUCCEEDED, State.FAILED):
            times = [took for job in ended if (took := duration(job)) is not None]
            middle = f"{median(times):.1f}" if times else ""
            stored = bytes_text(stored_bytes(ended)) if ended else ""
            made.add_row(str(state), str(len(ended)), middle, stored)
    return made


def example_table(jobs: Iterable[Job], objects: ObjectStore) -> Table:
    """The S3 keys of one finished edit."""
    made = Table("one example", "", box=None, pad_edge=False)
    example = next((job for job in jobs if job.result and isinstance(job.spec, EditSpec)), None)
    if example is not None and example.result is not None:
        made.add_row("job", str(example.id))
        made.add_row("source", escape(example.spec.source.uri))
        for role, output in example.result.outputs.items():
            made.add_row(role, escape(objects.uri(output.key)))
    return made


def summary(outcome: Outcome, title: str) -> Summary:
    """The head of the gallery."""
    images = {job.spec.source.sha256 for job in outcome.jobs}
    edits = [job for job in outcome.jobs if isinstance(job.spec, EditSpec)]
    trips = [job for job in outcome.jobs if isinstance(job.spec, ReconstructionSpec)]
    exact = sum(bool(job.result and job.result.exact) for job in trips)
    facts = [
        (str(len(images)), "images"),
        (str(len(edits)), "edits"),
        (f"{exact} of {len(trips)}", "exact round trips"),
        (bytes_text(stored_bytes(outcome.jobs)), "stored"),
    ]
    if outcome.failed:
        facts.append((str(len(outcome.failed)), "not succeeded"))
    if outcome.seconds is not None:
        facts.append((seconds_text(outcome.seconds), "for everything"))
    return Summary(title, facts)


def stored_bytes(jobs: Iterable[Job]) -> int:
    """Bytes of all outputs; what jobs share counts once."""
    outputs = [output for job in jobs if job.result for output in job.result.outputs.values()]
    return sum({output.key: output.size for output in outputs}.values())


def duration(job: Job) -> float | None:
    """Seconds from its last start to its end."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
