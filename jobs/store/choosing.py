"""A `JobFilter` as conditions on rows."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, literal, or_, select

from jobs.filters import JobFilter
from jobs.gates import Condition
from jobs.tables import batch_jobs, jobs, marks


def conditions(which: JobFilter) -> list[ColumnElement[bool]]:
    """What must be true of a row that `which` means."""
    found: list[ColumnElement[bool]] = []
    if which.batch is not None:
        members = select(batch_jobs.c.job_id).where(batch_jobs.c.batch_id == which.batch)
        found.append(jobs.c.id.in_(members))
    if which.states:
        found.append(jobs.c.state.in_(which.states))
    if which.kind:
        found.append(jobs.c.kind == which.kind)
    if which.code:
        found.append(jobs.c.error_code == which.code)
    if which.model:
        pinned = jobs.c.model.startswith(f"{which.model}@", autoescape=True)
        found.append(or_(jobs.c.model == which.model, pinned))
    if which.prompt:
        found.append(_says(which.prompt))
    if which.mark:
        marked = select(marks.c.job_id).where(marks.c.verdict == which.mark)
        found.append(jobs.c.id.in_(marked))
    if which.flagged is not None:
        found.append(_flagged(which) if which.flagged else ~_flagged(which))
    found += map(_holds, which.figures)
    if which.tenant:
        found.append(jobs.c.tenant == which.tenant)
    return found


def _says(text: str) -> ColumnElement[bool]:
    if "\0" in text:
        return false()  # no prompt has one, and databases take it for the end of the text
    prompts = (jobs.c.spec[name].as_string() for name in ("base_prompt", "edit_prompt"))
    return or_(*(prompt.icontains(text, autoescape=True) for prompt in prompts))


def _flagged(which: JobFilter) -> ColumnElement[bool]:
    members = select(batch_jobs.c.job_id).where(batch_jobs.c.flagged)
    if which.batch is not None:
        members = members.where(batch_jobs.c.batch_id == which.batch)
    return jobs.c.id.in_(members)


def figure(name: str) -> ColumnElement[Any]:
    """A figure of a job's result as a number; null where it was not measured."""
    value = jobs.c.result[name]
    if name in _TRUTHS:
        return case((value.as_boolean(), 1.0), (~value.as_boolean(), 0.0))
    number: ColumnElement[Any] = value.as_float()
    return number


_TRUTHS = ("exact", "inversion_reused")


def _holds(condition: Condition) -> ColumnElement[bool]:
    """See `Condition.holds`."""
    agrees = condition.compare(figure(condition.name), literal(condition.value))
    if condition.name == "psnr" and condition.operator in (">", ">="):
        endless = and_(figure("psnr").is_(None), figure("exact") == 1.0)
        return or_(agrees, endless)
    result: ColumnElement[bool] = agrees
    return result
