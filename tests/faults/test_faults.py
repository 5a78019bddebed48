"""One thing breaks at a time, in the middle of work, and then everything at once.

Every test ends in `field.finish`: all good jobs have succeeded exactly once with the pixels that a
calm engine makes (see `expectations`).
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

import pytest

from jobs.states import State
from tests.faults import faults
from tests.faults.chaos import Chaos
from tests.faults.conftest import FEW_STEPS, Field
from tests.faults.deployment import LEASE_SECONDS
from tests.faults.expectations import check_no_strays, check_stopped
from tests.faults.faults import Fault
from tests.faults.proxy import Mode
from tests.faults.workload import Workload
from tests.pipeline import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def field(open_field: Callable[..., AbstractContextManager[Field]]) -> Iterator[Field]:
    """Two workers on machines of their own."""
    with open_field(workers=2, max_attempts=10) as field:
        field.deployment.start_processes()
        yield field


def test_a_calm_day_needs_one_attempt_for_each_job(field: Field):
    findings = field.finish(field.submit())

    assert findings.attempts == {1: findings.succeeded}
    assert findings.latents == 4


def test_workers_whose_disks_are_full_go_on(field: Field):
    """Neither a log line nor a temporary file can be written."""
    written = [child.log_tail() for child in field.deployment.supervisors]
    for supervisor in field.deployment.supervisors:
        faults.set_room(supervisor, 0)
    try:
        findings = field.finish(field.submit())
        # Longer than a lease: the heartbeat goes on too.
        time.sleep(LEASE_SECONDS)
        assert len(field.client.store.live_workers(seen_within=LEASE_SECONDS)) == 2
    finally:
        for supervisor in field.deployment.supervisors:
            faults.set_room(supervisor, resource.RLIM_INFINITY)

    assert findings.attempts == {1: findings.succeeded}
    assert [child.log_tail() for child in field.deployment.supervisors] == written


def worker_of(field: Field, pid: int) -> str | None:
    live = field.client.store.live_workers(seen_within=LEASE_SECONDS)
    return next((worker.name for worker in live if worker.pid == pid), None)


@pytest.mark.parametrize(
    "fault",
    [
        faults.kill_a_device,
        faults.kill_a_machine,
        faults.kill_control,
        faults.restart_redis,
        faults.lose_redis,
        faults.restart_postgres,
        faults.crash_postgres,
        faults.restart_s3,
    ],
    ids=lambda fault: fault.__name__,
)
def test_nothing_is_lost_or_done_twice_after(field: Field, fault: Fault):
    workload = field.submit()
    field.in_the_middle(workload)

    fault(field.deployment, field.chance)

    field.finish(workload)


def test_a_database_that_is_away_for_longer_than_a_lease_casts_no_suspicion(field: Field):
    """Nobody could renew a lease, and nobody is to blame for it."""
    workload = field.submit()
    field.in_the_middle(workload)

    field.deployment.postgres.stop()
    time.sleep(1.5 * LEASE_SECONDS)
    field.deployment.postgres.start()

    findings = field.finish(workload)
    assert findings.losses == 0


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.SLOW, Mode.CUT])
def test_an_object_store_that_misbehaves_delays_jobs_and_harms_none(field: Field, mode: Mode):
    workload = field.submit()
    field.in_the_middle(workload)
    before = field.deployment.proxy.struck[mode]

    faults._proxied(field.deployment, mode)

    assert field.deployment.proxy.struck[mode] > before
    field.finish(workload)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Hold processes for less than a lease: they take nothing and lose nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_jobs_whose_messages_were_all_taken_away_are_announced_again(field: Field):
    with frozen(field.deployment.devices()):
        workload = field.submit(groups=12, steps=FEW_STEPS)
        assert faults.waiting_messages(field.deployment) > 0
        faults.empty_redis(field.deployment, field.chance)
        assert faults.waiting_messages(field.deployment) == 0

    findings = field.finish(workload)
    assert findings.attempts == {1: findings.succeeded}


def test_a_message_delivered_five_times_runs_its_jobs_once(field: Field):
    with frozen(field.deployment.devices()):
        workload = field.submit(groups=12, steps=FEW_STEPS)
        waiting = faults.waiting_messages(field.deployment)
        faults.repeat_messages(field.deployment, field.chance)

    assert waiting > 0
    findings = field.finish(workload)
    assert findings.attempts == {1: findings.succeeded}


def test_a_worker_frozen_past_its_lease_wakes_and_changes_nothing(field: Field):
    workload = field.submit()
    field.in_the_middle(workload)

    pid, held = eventually(lambda: freeze_one_at_work(field, workload))
    try:
        # Others take over what it holds, while it still believes to hold it.
        eventually(lambda: all(field.client.store.job(job).attempts > 1 for job in held))
    finally:
        os.kill(pid, signal.SIGCONT)

    field.finish(workload)
    # What it still wants to write is refused by the fencing token.
    time.sleep(1)
    field.finish(workload)


ON_ITS_WAY_SECONDS = 0.5
"""Of a statement that a process had sent before it was frozen; far less than a lease."""


def freeze_one_at_work(field: Field, workload: Workload) -> tuple[int, list[UUID]] | None:
    """Stop a device process that runs some of these jobs, and say which."""
    for pid in field.deployment.devices():
        os.kill(pid, signal.SIGSTOP)
        # Only now: what it ran a moment ago may just have ended, and the news be on its way.
        time.sleep(ON_ITS_WAY_SECONDS)
        worker = worker_of(field, pid)
        rows = [field.client.store.job(job) for job in workload.job_ids]
        held = [row.id for row in rows if row.state == State.RUNNING and row.worker == worker]
        if held:
            return pid, held
        os.kill(pid, signal.SIGCONT)
    return None


def test_poison_pictures_fail_at_once_and_their_neighbours_succeed(field: Field):
    workload = field.submit(groups=10, steps=FEW_STEPS)

    findings = field.finish(workload)

    assert findings.refused == 1
    assert findings.attempts == {1: findings.succeeded}


def test_hundreds_of_jobs_survive_all_faults_together(field: Field):
    with Chaos(field.deployment, pause=(0.5, 2.0), seed=1) as chaos:
        workload = field.submit(groups=40, steps=FEW_STEPS)
        eventually(lambda: chaos.struck.total() >= 12)

    assert field.finish(workload).taken_back > 0


def test_at_the_end_nothing_is_left_behind(field: Field):
    """Comes last: it stops the deployment of the tests before."""
    # One that is only just starting again dies of the signal: it holds nothing yet.
    eventually(field.deployment.is_ready)
    statuses = field.deployment.stop_processes()

    assert statuses == [0] * 3
    with field.deployment.bucket() as objects:
        check_no_strays(field.engine, objects)
    time.sleep(LEASE_SECONDS)
    check_stopped(field.deployment, field.engine, LEASE_SECONDS)
