"""What is to be written while the database is away."""

import pytest
from sqlalchemy.exc import OperationalError

from jobs.errors import LeaseLost
from jobs.states import State
from tests.worker.conftest import Bench
from worker.outages import outlast


class Away:
    """A write that fails until the database is back, and is counted."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self._failures = failures

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise OperationalError("UPDATE jobs", {}, ConnectionError("server closed"))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.outages.AGAIN_SECONDS", 0.0)


def test_a_write_is_sent_again_until_the_database_answers():
    write = Away(3)

    outlast(write, wanted=lambda: True)

    assert write.calls == 4


def test_nobody_waits_for_a_write_that_is_not_wanted_any_more():
    write = Away(3)

    with pytest.raises(OperationalError):
        outlast(write, wanted=lambda: write.calls < 2)

    assert write.calls == 2


def test_what_the_database_answers_is_the_answer():
    def refuse() -> None:
        raise LeaseLost("taken over")

    with pytest.raises(LeaseLost):
        outlast(refuse, wanted=lambda: True)


def test_a_job_that_ends_in_an_outage_has_succeeded_at_its_first_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    away, finish = Away(2), bench.store.finish
    monkeypatch.setattr(bench.store, "finish", lambda *a: (away(), finish(*a)))

    [job] = bench.run(bench.edit())

    assert (job.state, job.attempts, away.calls) == (State.SUCCEEDED, 1, 3)
