"""What a stolen login may do in the database: what its process must, and no more."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from jobs.records import StoredInversion, Worker
from jobs.services import check_tables
from jobs.states import State
from jobs.store import JobStore
from jobs.store.base import utc_now
from jobs.tables import metadata
from tests.deploy.helm import MISSING, find_helm, render, scaling_query
from tests.jobs.factories import LEASE, RESULT, claim, edit, queue
from tests.security import roles

ROOT = Path(__file__).parents[2]
KEY = "inversions/ab/cd/abcd.safetensors"

DENIED = {
    "edict_worker": [
        "SELECT name, digest FROM api_keys",
        "SELECT * FROM api_submissions",
        "SELECT body FROM api_answers",
        "SELECT template FROM schedules",
        "SELECT uri FROM known_sources",
        "SELECT payload FROM webhook_deliveries",
        "SELECT name FROM batches",
        "SELECT * FROM marks",
        "INSERT INTO jobs (id) VALUES (gen_random_uuid())",
        "UPDATE jobs SET spec = '{}'",
        "UPDATE jobs SET tenant = 'another'",
        "UPDATE jobs SET model = 'another'",
        "UPDATE webhooks SET url = 'https://thief.example'",
        "UPDATE batch_jobs SET batch_id = gen_random_uuid()",
        "DELETE FROM jobs",
        "DELETE FROM inversions",
        "DELETE FROM batch_tallies",
        "CREATE TABLE theirs (id int)",
        "CREATE TEMPORARY TABLE theirs (id int)",
        "COPY jobs TO PROGRAM 'cat'",
    ],
    "edict_api": [
        "INSERT INTO api_keys (id) VALUES (gen_random_uuid())",
        "UPDATE api_keys SET scope = 'admin'",
        "UPDATE api_keys SET tenant = NULL",
        "UPDATE api_keys SET expires_at = NULL",
        "UPDATE api_keys SET digest = 'known'",
        "DELETE FROM api_keys",
        "DELETE FROM jobs",
        "DELETE FROM batches",
        "INSERT INTO deletions (key) VALUES ('sources/a')",
        "DELETE FROM workers",
        "CREATE TABLE theirs (id int)",
    ],
    "edict_control": [
        "SELECT digest FROM api_keys",
        "SELECT * FROM api_submissions",
        "DELETE FROM api_submissions",
        "SELECT body FROM api_answers",
        "CREATE TABLE theirs (id int)",
        "DROP TABLE jobs",
    ],
    "edict_scaler": [
        "SELECT spec FROM jobs",
        "SELECT tenant FROM jobs",
        "SELECT * FROM workers",
        "UPDATE jobs SET state = 'pending'",
    ],
}


@pytest.mark.parametrize("role", DENIED)
def test_a_role_is_refused_all_that_its_process_does_not_do(
    opened: Callable[[str], Engine], role: str
):
    engine = opened(role)

    for statement in DENIED[role]:
        with (
            engine.connect() as connection,
            pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        ):
            connection.execute(text(statement))


def test_a_role_that_was_granted_nothing_may_not_even_connect(owner_url: str, owner: JobStore):
    with owner._engine.begin() as connection:
        connection.execute(text("CREATE ROLE test_nobody LOGIN"))
        try:
            may = text(
                "SELECT has_database_privilege('test_nobody', current_database(), 'CONNECT')"
            )
            assert not connection.scalar(may)
        finally:
            connection.execute(text("DROP ROLE test_nobody"))


def test_every_table_is_somebodys(owner: JobStore):
    named = roles.ROLES_FILE.read_text()

    for table in metadata.tables:
        with owner._engine.connect() as connection:
            found = connection.scalar(
                text(
                    "SELECT count(*) FROM unnest(cast(:roles AS text[])) AS role "
                    "WHERE has_any_column_privilege(role, :table, 'SELECT')"
                ),
                {"roles": list(roles.ROLES), "table": table},
            )
        assert found, f"{table}: grant it to who needs it"
        assert table in named


def test_the_grants_may_be_given_again_under_running_workers(
    owner_url: str, opened: Callable[[str], Engine], owner: JobStore
):
    worker = JobStore(opened("edict_worker"))
    held = claim_as(worker, owner)

    roles.grant(owner_url)

    worker.finish(held, RESULT)
    assert owner.job(held.job_id).state == State.SUCCEEDED


def claim_as(worker: JobStore, owner: JobStore, **fields: object):
    """One running job, queued by the owner."""
    [submitted] = owner.submit([edit(prompt=f"a dog {utc_now()}")], **fields)
    owner.take_due(1)
    return claim(worker, submitted.job_id)


def test_the_worker_role_does_all_that_a_worker_does(
    opened: Callable[[str], Engine], owner: JobStore
):
    """Every statement of a worker, on a batch with a gate and with somebody to be told."""
    used: set[str] = set()
    engine = opened("edict_worker")
    worker = Watched(JobStore(engine), used)
    check_tables(engine)
    batch = owner.open_batch("gated")
    owner.set_gate(batch.id, ["psnr>=90"])
    owner.subscribe_to_batch(batch.id, "https://example.org/hook")
    now = utc_now()
    worker.register_worker(Worker("w1", "h", 1, "cpu", "demo", "r1", now, now, 1))

    def running() -> object:
        [submitted] = owner.submit([edit(prompt=f"a dog {utc_now()}")], batch_id=batch.id)
        owner.subscribe_to_jobs([submitted.job_id], "https://example.org/hook")
        owner.take_due(1)
        [claimed] = worker.claim([submitted.job_id], "w1", lease=LEASE)
        return claimed

    def state(claimed: object) -> State:
        return owner.job(claimed.job_id).state

    done = running()
    held = (done.job_id, done.token)
    assert worker.heartbeat("w1", {held: 0.5}, lease=LEASE) == worker.held([held]) == {held}
    turn = worker.claim_inversion(KEY, "ab" * 32, "w1", lease=LEASE, alone=False)
    worker.renew_inversions([turn], lease=LEASE)
    parked = running()
    assert worker.park([parked], KEY)
    assert worker.inversion_stored(turn, StoredInversion("ab" * 32, 7, "cpu"))
    assert worker.stored_token(KEY) == turn.token
    again = worker.claim_inversion(
        KEY, "ab" * 32, "w1", lease=LEASE, alone=False, replacing=turn.token
    )
    assert worker.abandon_inversion(again)
    worker.finish(done, RESULT.model_copy(update={"psnr": 20.0}))
    failed, later, lost, back = (running() for _ in range(4))
    worker.fail(failed, "bad_image", "it is damaged")
    assert worker.postpone(later, "storage", "away", delay=5) == State.PENDING
    assert worker.lose(lost, "device", "broken") == State.PENDING
    worker.give_back(back)
    assert worker.suspects([lost.job_id]) == []
    worker.remove_worker("w1")

    assert [state(each) for each in (done, failed)] == [State.SUCCEEDED, State.FAILED]
    assert {state(each) for each in (parked, later, lost, back)} == {State.PENDING}
    assert owner.flagged_of(batch.id) == 1
    assert owner.counts(batch.id)[State.SUCCEEDED] == 1
    assert len(owner.deliveries(batch_id=batch.id)) == 2
    assert used >= called_by_workers()


class Watched:
    """A store that notes which of its methods are called."""

    def __init__(self, store: JobStore, used: set[str]) -> None:
        self._store = store
        self._used = used

    def __getattr__(self, name: str):
        self._used.add(name)
        return getattr(self._store, name)


def called_by_workers() -> set[str]:
    """The store's methods that are named in the worker's modules."""
    named = {
        node.attr
        for path in (ROOT / "worker").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and "store" in ast.unparse(node.value).rpartition(".")[2]
        and hasattr(JobStore, node.attr)
    }
    assert len(named) > 10
    return named


@pytest.mark.skipif(find_helm() is None, reason=MISSING)
def test_the_scaler_counts_with_the_shipped_query(opened: Callable[[str], Engine], owner: JobStore):
    queue(owner, 2)
    query = scaling_query(render("1.34.0", {}))

    with opened("edict_scaler").connect() as connection:
        assert connection.connection.cursor().execute(query).fetchone() == (2,)
