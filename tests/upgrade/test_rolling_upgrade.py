"""Migrate first, then roll the processes, while jobs come in and are run.

The version before works on the new schema; this version waits on the schema of the one before.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from jobs.database import open_database
from jobs.processes import Child
from migrations.run import current_revision, upgrade
from tests.faults.audit import histories
from tests.faults.deployment import Deployment, children_of
from tests.faults.expectations import check_histories, check_stopped
from tests.faults.workload import SIZE, picture
from tests.pipeline import eventually
from tests.upgrade.versions import Version, this_version, version_before

pytestmark = pytest.mark.slow

WORKER = ("worker", "--devices", "cpu")
ANIMALS = ("dog", "fox", "owl", "hen", "cow", "bee", "elk", "ant")
PICTURES = 3
FIRST = PICTURES * len(ANIMALS)
"""Jobs from before the migration: enough that it comes in their middle."""
FEW = ANIMALS[:3]
MANY = tuple(f"{colour} {animal}" for colour in ("red", "blue", "grey") for animal in ANIMALS)
TOTAL = FIRST + PICTURES * (len(FEW) + len(MANY))
"""The last batch is large: the old version is to leave in its middle, however busy the machine."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return version_before(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new() -> Version:
    return this_version()


@pytest.fixture
def deployment(tmp_path: Path, old: Version) -> Iterator[Deployment]:
    """Servers, on the schema of the version before."""
    with Deployment(tmp_path / "servers", schema=old.revision) as deployment:
        yield deployment


@pytest.fixture
def engine(deployment: Deployment) -> Iterator[Engine]:
    engine = open_database(deployment.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(PICTURES):
        (folder / f"picture-{number}.png").write_bytes(picture(number))
    return folder


def submit(
    version: Version,
    deployment: Deployment,
    photographs: Path,
    name: str,
    animals: Sequence[str] = FEW,
) -> None:
    """Every picture once for each animal."""
    edits = ("--from", "{name}", "--to", f"a {{animal}} {name}", "--vary")
    cheap = ("--size", SIZE, "--steps", 30, "--strength", 1, "--guidance", 1)
    command = ("bulk", photographs, "--name", name, *edits, f"animal={','.join(animals)}", *cheap)
    version.run(deployment, *command)


def ended(engine: Engine) -> int:
    """How many jobs have come to an end; in SQL that every version understands."""
    with engine.connect() as connection:
        counted = text("SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL")
        return int(connection.execute(counted).scalar_one())


def registered(engine: Engine) -> set[int]:
    """The device processes that say that they work."""
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT pid FROM workers")).scalars())


def device_of(worker: Child) -> set[int]:
    assert worker.pid is not None
    return set(children_of(worker.pid))


def stopped(*processes: Child) -> list[int | None]:
    """Their exit statuses, once they were told to stop as a service manager tells it."""
    for process in processes:
        process.terminate()
    # No second signal: while Python ends, it would be the last word.
    return [process.wait(40) for process in processes]


def said(process: Child) -> str:
    assert process.log is not None
    return process.log.read_text()


def test_a_fleet_is_upgraded_while_it_works(
    deployment: Deployment, engine: Engine, old: Version, new: Version, photographs: Path
) -> None:
    with ExitStack() as stack:

        def start(version: Version, *command: str) -> Child:
            return stack.enter_context(version.process(deployment, *command))

        # Given a fleet of the version before
        controls, workers = [start(old, "control")], [start(old, *WORKER)]
        eventually(lambda: registered(engine) & device_of(workers[0]), seconds=120)
        old_pids = device_of(workers[0])

        # When somebody starts the new version too early
        workers.append(start(new, *WORKER))
        eventually(lambda: "Run `edict migrate`" in said(workers[1]))
        controls.append(start(new, "control"))
        eventually(lambda: "Run `edict migrate`" in said(controls[1]))
        # Then that waits
        assert registered(engine) == old_pids
        assert "control.started" not in said(controls[1])

        # When the database is migrated under the jobs that run
        submit(old, deployment, photographs, "first", ANIMALS)
        eventually(lambda: ended(engine) >= 1)
        # In this process: until a command has started, a quick machine has done all jobs.
        upgrade(deployment.database_url)
        assert ended(engine) < FIRST, "the migration comes too late"
        assert current_revision(engine) == new.revision
        # Then both versions submit, and both work
        eventually(lambda: registered(engine) & device_of(workers[1]), seconds=60)
        eventually(lambda: "control.started" in said(controls[1]))
        new_pids = device_of(workers[1])
        submit(old, deployment, photographs, "second")
        submit(new, deployment, photographs, "third", MANY)
        eventually(lambda: ended(engine) > FIRST)

        # When the old ones are told to stop
        assert ended(engine) < TOTAL, "the old version leaves too late"
        assert stopped(workers[0], controls[0]) == [0, 0]

        # Then the new ones do the rest
        eventually(lambda: ended(engine) == TOTAL)
        assert stopped(workers[1], controls[1]) == [0, 0]
        check_all_succeeded_once(engine, old_pids, new_pids)
        for process in (*workers, *controls):
            assert "Traceback" not in said(process)
    check_stopped(deployment, engine, since_seconds=60)


def check_all_succeeded_once(engine: Engine, *fleets: set[int]) -> None:
    """Every job at its first attempt, with none lost on the way, and every fleet had a share."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, state, attempts, losses FROM jobs")).all()
    assert len(rows) == TOTAL
    assert {(row.state, row.attempts, row.losses) for row in rows} == {("succeeded", 1, 0)}
    ids = [row.id for row in rows]
    past = histories(engine, ids)
    check_histories(past, ids)
    ends = [changes[-1].worker or "" for changes in past.values()]
    pids = [int(re.findall(r"/(\d+)-\w+$", name)[0]) for name in ends]
    for fleet in fleets:
        assert set(pids) & fleet, f"{fleet} did nothing"


def test_nothing_of_this_version_begins_on_the_schema_of_the_one_before(
    deployment: Deployment, engine: Engine, old: Version, new: Version, photographs: Path
) -> None:
    remedy = "Run `edict migrate`"

    assert remedy in new.run(deployment, "status", status=1)
    assert remedy in new.run(deployment, "serve", "--port", "0", status=1)
    picture = photographs / "picture-0.png"
    command = ("submit", "edit", picture, "--from", "a", "--to", "b")
    assert remedy in new.run(deployment, *command, status=1)

    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0
