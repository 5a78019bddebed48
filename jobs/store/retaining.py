"""Retention: which jobs are due to lose what, and the outbox of objects to delete.

Invariant: a row never speaks of an object that pruning deletes. One transaction takes the object's
key off the row (or the row away) and puts it into `deletions`; objects are deleted from there, as
often as it takes. A crash at any point leaves entries that the next run works off.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    or_,
    select,
    true,
    update,
)

from jobs.errors import InvalidInput
from jobs.records import Batch
from jobs.retention import GLOBAL, Deletion, Retention, What
from jobs.specs import digest_of, parse_spec
from jobs.states import ENDED, LIVE, InversionState, State
from jobs.store.base import StorePart, chunks
from jobs.tables import (
    batch_jobs,
    batches,
    deletions,
    inversions,
    job_exports,
    jobs,
    retentions,
)

LATENTS = "latents"
"""The role of a stored inversion among a job's outputs; all other roles are results."""

IMAGE_KEY = jobs.c.result[("outputs", "image", "key")].as_string()
LATENTS_KEY = jobs.c.result[("outputs", LATENTS, "key")].as_string()


class Retaining(StorePart):
    """Policies, and what follows from them in SQL. The objects are `producer.retention`'s."""

    def set_retention(self, what: What, days: float | None, batch: Batch | None = None) -> None:
        """Keep `what` for `days` after a job's end, or (None) until it was exported."""
        values = {"days": days, "batch_id": batch and batch.id}
        entry = self._insert(retentions).values(scope=_scope(batch), what=what, **values)
        entry = entry.on_conflict_do_update(index_elements=["scope", "what"], set_=values)
        with self._engine.begin() as connection:
            connection.execute(entry)

    def clear_retention(self, what: What, batch: Batch | None = None) -> None:
        """Have no policy (any more): the global one counts, or `what` is kept for good."""
        table = retentions.c
        gone = delete(retentions).where(table.scope == _scope(batch), table.what == what)
        with self._engine.begin() as connection:
            connection.execute(gone)

    def retentions(self) -> list[Retention]:
        """All policies, the global ones first."""
        statement = (
            select(retentions.c.what, retentions.c.days, batches.c.id, batches.c.name)
            .outerjoin(batches, batches.c.id == retentions.c.batch_id)
            .order_by(retentions.c.batch_id.is_not(None), batches.c.name, retentions.c.what)
        )
        with self._reader.connect() as connection:
            return [
                Retention(What(what), days, name or (str(batch) if batch else None))
                for what, days, batch, name in connection.execute(statement)
            ]

    def mark_exported(self, job_ids: Sequence[UUID]) -> None:
        """Note that the results of these jobs were taken away."""
        entry = self._insert(job_exports).on_conflict_do_nothing()
        now = self._clock()
        for chunk in chunks(job_ids):
            rows = [{"job_id": job_id, "exported_at": now} for job_id in sorted(chunk)]
            with self._engine.begin() as connection:
                connection.execute(entry, rows)

    def due_for(self, what: What) -> ColumnElement[bool]:
        """Of a row of `jobs`: its time is up by the policies of every batch that it is in."""
        policies = [each for each in self.retentions() if each.what == what]
        common = [each.days for each in policies if each.batch is None]
        own = {each.days for each in policies if each.batch is not None}
        by_global = self._passed(common[0]) if common else false()
        days = retentions.c.days
        by_own = or_(
            false(),
            *(
                and_(days.is_(None) if each is None else days.is_not_distinct_from(each),
                     self._passed(each))
                for each in own
            ),
        )  # fmt: skip
        held = exists(
            select(batch_jobs.c.job_id)
            .outerjoin(
                retentions,
                and_(retentions.c.batch_id == batch_jobs.c.batch_id, retentions.c.what == what),
            )
            .where(
                batch_jobs.c.job_id == jobs.c.id,
                case((retentions.c.scope.is_(None), by_global), else_=by_own).is_not(true()),
            )
        )
        in_a_batch = exists().where(batch_jobs.c.job_id == jobs.c.id)
        return and_(
            true() if policies else false(),
            jobs.c.state.in_(ENDED),
            or_(in_a_batch, by_global),
            ~held,
        )

    def _passed(self, days: float | None) -> ColumnElement[bool]:
        if days is None:
            # Of the outermost query's job, however deep: else one export would free all jobs.
            mine = select(job_exports.c.job_id).where(job_exports.c.job_id == jobs.c.id)
            return mine.correlate(jobs).exists()
        return jobs.c.finished_at < self._clock() - timedelta(days=days)

    def strip_due(self, what: What, *, limit: int) -> list[str]:
        """Take outputs off the rows of up to `limit` due jobs; returns the keys, now to delete."""
        has = LATENTS_KEY if what == What.LATENTS else IMAGE_KEY
        return self._strip(what, self.due_for(what), has.is_not(None), limit=limit)

    def strip_key(self, key: str, digests: Sequence[str]) -> list[str]:
        """Take an inversion that is gone off the rows that still speak of it."""
        users = jobs.c.inversion_digest.in_(digests)
        return self._strip(What.LATENTS, users, key == LATENTS_KEY, limit=None)

    def _strip(self, what: What, *which: ColumnElement[bool], limit: int | None) -> list[str]:
        columns = (jobs.c.id, jobs.c.kind, jobs.c.spec, jobs.c.identity, jobs.c.result)
        chosen = (
            select(*columns)
            .where(jobs.c.state == State.SUCCEEDED, *which)
            .order_by(jobs.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=jobs)
        )
        stripped = update(jobs).where(jobs.c.id == bindparam("which"))
        stripped = stripped.values(result=bindparam("left"), identity=bindparam("known_as"))
        with self._engine.begin() as connection:
            rows = connection.execute(chosen).all()
            if not rows:
                return []
            removed = [entry for row in rows for entry in _outputs(row, what)]
            connection.execute(stripped, [_without(row, what) for row in rows])
            self._mark(connection, removed)
        return [entry["key"] for entry in removed]

    def delete_due(self, *, sources: str, limit: int) -> int:
        """Remove up to `limit` due jobs, and mark their objects for deletion; says how many.

        `sources` is the address that sources of ours begin with.
        """
        columns = (jobs.c.id, jobs.c.spec, jobs.c.result)
        chosen = (
            select(*columns)
            .where(self.due_for(What.ROWS))
            .order_by(jobs.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=jobs)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(chosen).all()
            entries = [entry for row in rows for what in What for entry in _outputs(row, what)]
            entries += [entry for row in rows for entry in _sources(row.spec, sources)]
            self._mark(connection, entries)
            gone = [row.id for row in rows]
            connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
        return len(gone)

    def _mark(self, connection: Connection, entries: Iterable[dict[str, Any]]) -> None:
        now = self._clock()
        unique = {each["key"]: each | {"marked_at": now, "deleted_at": None} for each in entries}
        if not unique:
            return
        entry = self._insert(deletions)
        entry = entry.on_conflict_do_update(
            index_elements=["key"],
            set_={name: entry.excluded[name] for name in ("marked_at", "deleted_at", "digests")},
        )
        # In one order for all, against waiting in a circle.
        connection.execute(entry, [unique[key] for key in sorted(unique)])

    def deletions(self, *, after: str = "", limit: int = 500) -> list[Deletion]:
        """Objects that are to leave the bucket, by key."""
        statement = select(deletions).where(deletions.c.key > after)
        statement = statement.order_by(deletions.c.key).limit(limit)
        with self._reader.connect() as connection:
            return [
                Deletion(row.key, tuple(row.digests or ()), row.marked_at, row.deleted_at)
                for row in connection.execute(statement)
            ]

    def users_of(self, digests: Sequence[str], keys: Sequence[str]) -> tuple[set[str], set[str]]:
        """Of these inversions: digests of jobs that may still use one, keys that rows speak of."""
        statement = select(jobs.c.inversion_digest, jobs.c.state, LATENTS_KEY).where(
            jobs.c.inversion_digest.in_(digests),
            or_(jobs.c.state.in_(LIVE), LATENTS_KEY.in_(keys)),
        )
        with self._reader.connect() as connection:
            rows = connection.execute(statement).all()
        live = {digest for digest, state, _ in rows if state in LIVE}
        return live, {key for _, _, key in rows if key is not None}

    def sources_named(self, uris: Sequence[str]) -> set[str]:
        """Those of these addresses that a job's row names, as its image or its mask.

        Reads the whole table once: no index knows it, and pruning is in no hurry.
        """
        source, mask = (jobs.c.spec[(name, "uri")].as_string() for name in ("source", "mask"))
        found: set[str] = set()
        with self._reader.connect() as connection:
            for column in (source, mask):
                statement = select(column).where(column.in_(uris)).distinct()
                found.update(connection.scalars(statement))
        return found

    def note_deleted(self, keys: Sequence[str]) -> None:
        """These objects are gone; their entries stay until nobody can have seen them before."""
        gone = update(deletions).where(deletions.c.key.in_(keys)).values(deleted_at=self._clock())
        stored = and_(inversions.c.key.in_(keys), inversions.c.state == InversionState.STORED)
        with self._engine.begin() as connection:
            connection.execute(gone)
            connection.execute(delete(inversions).where(stored))

    def forget_deletions(self, keys: Sequence[str]) -> None:
        """Strike entries that are done, or not to be done."""
        with self._engine.begin() as connection:
            connection.execute(delete(deletions).where(deletions.c.key.in_(keys)))


def _scope(batch: Batch | None) -> str:
    return batch.id.hex if batch else GLOBAL


def _belongs(role: str, what: What) -> bool:
    return what != What.ROWS and (role == LATENTS) == (what == What.LATENTS)


def _outputs(row: Any, what: What) -> list[dict[str, Any]]:
    """Entries for the outputs of a row that `what` speaks of."""
    result = row.result or {}
    outputs = result.get("outputs", {}).items()
    keys = {role: output["key"] for role, output in outputs if _belongs(role, what)}
    digests = None
    if LATENTS in keys:
        try:
            digests = inversion_digests(row.spec, result)
        except InvalidInput:
            # Another version's: who else uses the inversion cannot be told, so it stays.
            del keys[LATENTS]
    return [
        {"key": key, "digests": digests if role == LATENTS else None} for role, key in keys.items()
    ]


def inversion_digests(spec: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Inversion digests of all jobs that may share this one's inversion.

    They ask for the revision of the model that made it, or for whichever is served.
    """
    parsed = parse_spec(spec)
    recipe = parsed.inversion_recipe()
    revisions = (None, result["model_revision"])
    return [
        digest_of(recipe | {"model": {"name": parsed.model.name, "revision": revision}})
        for revision in revisions
    ]


def _sources(spec: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Entries for the images of ours that a spec names."""
    named = [spec.get("source"), spec.get("mask")]
    uris = [image["uri"] for image in named if isinstance(image, dict)]
    start = len(prefix) - len("sources/")
    return [{"key": uri[start:], "digests": None} for uri in uris if uri.startswith(prefix)]


def _without(row: Any, what: What) -> dict[str, Any]:
    """The row less its outputs of this kind.

    A job that lost what it was for gives its identity away: the same spec is a new job then.
    """
    outputs = row.result["outputs"]
    lost = [role for role in outputs if _belongs(role, what)]
    kept = {role: output for role, output in outputs.items() if role not in lost}
    pruned = sorted({*row.result.get("pruned", ()), *lost})
    purpose = LATENTS if row.kind == "inversion" else "image"
    digest = row.identity.partition(":")[0]
    return {
        "which": row.id,
        "left": row.result | {"outputs": kept, "pruned": pruned},
        "known_as": f"{digest}:{row.id}" if purpose in lost else row.identity,
    }
