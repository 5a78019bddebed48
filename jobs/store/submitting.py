"""Making work: batches and submissions."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, or_, select, update

from jobs.errors import InvalidInput
from jobs.ids import new_id
from jobs.records import Batch, Submission
from jobs.specs import Spec
from jobs.states import State
from jobs.store.base import change
from jobs.store.gating import Gating
from jobs.store.inverting import forgive_inversions
from jobs.store.pausing import Pausing
from jobs.tables import batch_jobs, batches, jobs
from jobs.tracing import traceparent

SUBMIT_CHUNK = 500
"""Rows a transaction: large enough to be quick, small enough to let claims in between."""

_NAME_CHARACTERS = 200

ENDED_BADLY: ColumnElement[bool] = jobs.c.state.in_((State.FAILED, State.CANCELLED))


def check_batch_name(name: str) -> None:
    """Refuse what no batch may be called.

    Raises:
        InvalidInput: it is blank, too long, or holds what cannot be printed.
    """
    if not (name.isprintable() and name.strip() and len(name) <= _NAME_CHARACTERS):
        raise InvalidInput(
            "batch.name",
            f"must be 1 to {_NAME_CHARACTERS} printable characters, not all of them spaces "
            f"(got {name!r:.220})",
        )


class Submitting(Pausing, Gating):
    """What producers and people ask for."""

    def open_batch(self, name: str | None = None, *, tenant: str | None = None) -> Batch:
        """Make a batch, or find the one that bears this name; a tenant's is `TENANT/NAME`.

        Raises:
            InvalidInput: the name is blank, too long, holds what cannot be printed, or is another
                tenant's.
        """
        if name is not None:
            check_batch_name(name)
        if name is not None and tenant is not None:
            name = f"{tenant}/{name}"
        batch = Batch(new_id(), name, self._clock(), tenant=tenant)
        with self._engine.begin() as connection:
            connection.execute(
                self._insert(batches)
                .values(id=batch.id, name=name, created_at=batch.created_at, tenant=tenant)
                .on_conflict_do_nothing(index_elements=["name"])
            )
            which = batches.c.id == batch.id if name is None else batches.c.name == name
            found = connection.execute(select(batches).where(which)).one()
            if found.tenant != tenant:
                raise InvalidInput(
                    "batch.name",
                    f"{name!r:.220} is not yours: a tenant's name and a slash begin it",
                )
            return Batch(found.id, found.name, found.created_at, found.paused_at, found.tenant)

    def submit(
        self,
        specs: Iterable[Spec],
        *,
        batch_id: UUID | None = None,
        priority: int = 0,
        force: bool = False,
        tenant: str | None = None,
    ) -> list[Submission]:
        """Commit a row for each new spec, in the order given.

        A spec that was submitted before is the same job: it is only made a member of the batch,
        and tried again if it had failed or been cancelled; where it still waits, it becomes as
        urgent as the most urgent wish for it. `force` makes a new job instead. Tenants share none.
        """
        rows = [self._row(spec, priority, tenant, force=force) for spec in specs]
        submissions: list[Submission] = []
        for start in range(0, len(rows), SUBMIT_CHUNK):
            submissions += self._submit_chunk(rows[start : start + SUBMIT_CHUNK], batch_id)
        return submissions

    def _row(self, spec: Spec, priority: int, tenant: str | None, *, force: bool) -> dict[str, Any]:
        job_id, digest, now = new_id(), spec.digest(), self._clock()
        asked = digest if tenant is None else f"{digest}:{tenant}"
        return {
            "id": job_id,
            "kind": spec.kind,
            "spec": spec.model_dump(mode="json"),
            "identity": f"{digest}:{job_id}" if force else asked,
            "inversion_digest": spec.inversion_digest(),
            "model": spec.model.label,
            "priority": priority,
            "state": State.PENDING,
            "created_at": now,
            "due_at": now,
            "tenant": tenant,
            "traceparent": traceparent(),
        }

    def _submit_chunk(self, rows: list[dict[str, Any]], batch_id: UUID | None) -> list[Submission]:
        identities = [row["identity"] for row in rows]
        # In one order for all: two submissions that share specs must not wait in a circle.
        new = sorted(rows, key=lambda row: str(row["identity"]))
        priority = rows[0]["priority"]
        same = jobs.c.identity.in_(identities)
        with self._engine.begin() as connection:
            paused = batch_id is not None and self._enter(connection, batch_id)
            insert = self._insert(jobs).on_conflict_do_nothing(index_elements=["identity"])
            connection.execute(insert, new)
            if self._lock_older(connection, rows):
                forgive_inversions(connection, same)
                connection.execute(_renewal(), [_renewed(row) for row in new])
                connection.execute(self._revive(same).values(priority=priority))
                connection.execute(urge(same, priority))
            found = {
                row.identity: row
                for row in connection.execute(
                    select(jobs.c.identity, jobs.c.id, jobs.c.state).where(same)
                )
            }
            if batch_id is not None:
                members = {found[identity].id for identity in identities}
                connection.execute(
                    self._insert(batch_jobs).on_conflict_do_nothing(),
                    [{"batch_id": batch_id, "job_id": member} for member in sorted(members)],
                )
                # Those that succeeded before are judged by this batch's gate too.
                self._judge_new(connection, select(jobs.c.id).where(same), batch_id)
                if paused:
                    self._hold(connection, list(members))
        return [
            Submission(found[row["identity"]].id, State(found[row["identity"]].state), created)
            for row in rows
            for created in [found[row["identity"]].id == row["id"]]
        ]

    def _lock_older(self, connection: Connection, rows: list[dict[str, Any]]) -> bool:
        """Lock the jobs that were there before these rows; whether there are any.

        By ids, as everybody does who changes several jobs. Only now: whoever inserts holds nothing
        but new rows, which nobody else sees, so that nobody with locks waits for one.
        """
        known = (
            select(jobs.c.id)
            .where(
                jobs.c.identity.in_([row["identity"] for row in rows]),
                jobs.c.id.not_in([row["id"] for row in rows]),
            )
            .order_by(jobs.c.id)
        )
        return bool(connection.execute(known.with_for_update(key_share=True)).all())

    def _revive(self, which: ColumnElement[bool]) -> Update:
        return change(which, ENDED_BADLY, **self._revived())

    def _revived(self) -> dict[str, Any]:
        return {
            "state": State.PENDING,
            "due_at": self._clock(),
            "attempts": 0,
            "losses": 0,
            "error_code": None,
            "error_message": None,
            "progress": None,
            "started_at": None,
            "finished_at": None,
            # Its new life belongs to the trace of whoever wanted it.
            "traceparent": traceparent(),
        }


def _renewal() -> Update:
    """Of a job that had failed or been cancelled: take the new spec.

    The specs differ in where the image lies at most: where it lay may be why the job failed.
    """
    # No IN: its list cannot be expanded once for many rows.
    ended_badly = or_(jobs.c.state == State.FAILED, jobs.c.state == State.CANCELLED)
    same = jobs.c.identity == bindparam("known_identity")
    return update(jobs).where(same, ended_badly).values(spec=bindparam("new_spec"))


def _renewed(row: dict[str, Any]) -> dict[str, Any]:
    return {"known_identity": row["identity"], "new_spec": row["spec"]}


def urge(which: ColumnElement[bool], priority: int) -> Update:
    """Let jobs that still wait go before others; a message of the bulk lane is not waited for."""
    return change(which, may_urge(priority), priority=priority, state=State.PENDING)


def may_urge(priority: int) -> ColumnElement[bool]:
    """Of a row: whether it still waits, and for less urgent a wish."""
    waits = jobs.c.state.in_((State.PENDING, State.QUEUED))
    return and_(waits, jobs.c.priority < priority)
