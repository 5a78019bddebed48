"""A result made again from its own recipe, and what came of it."""

from jobs.errors import JobsError, NotFound
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.records import Job, Submission
from jobs.result_files import Recipe, read_recipe
from jobs.states import ENDED
from producer.api.problems import Refused
from producer.api.seen import Seen
from producer.api.submitting import audited
from producer.reproduce import repeat, verdict_on


def make_again(seen: Seen, job: Job) -> Submission:
    """Submit a job's recipe once more, before all bulk work.

    Raises:
        Refused: the job has no picture (any more), or no worker would repeat it.
        JobsError: see `producer.reproduce.repeat`.
    """
    recipe, _ = _recipe_of(seen, job)
    with audited(seen, jobs=1) as audit:
        made = repeat(seen.client, recipe, priority=INTERACTIVE_PRIORITY, tenant=seen.tenant)
        audit.job_id = made.job_id
    return made


def compared(seen: Seen, job: Job, first: Job) -> str:
    """How a repetition compares with the job that it repeats, in words; empty while it goes on."""
    if job.state not in ENDED:
        return ""
    try:
        recipe, data = _recipe_of(seen, first)
        return str(verdict_on(seen.client, recipe, data, job))
    except (JobsError, Refused) as error:
        return error.detail if isinstance(error, Refused) else str(error)


def _recipe_of(seen: Seen, job: Job) -> tuple[Recipe, bytes]:
    output = job.result and job.result.outputs.get("image")
    if not output:
        raise Refused(404, "not_found", f"job {job.id} has no picture that could be made again")
    try:
        data = seen.client.objects.get(output.key)
    except NotFound:
        raise Refused(404, "not_found", f"the picture of job {job.id} was deleted") from None
    return read_recipe(data, output.key), data
