"""Edits that somebody looks at are shown while they run; nothing else notices."""

import io
import threading
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from edict_engine.editor import Editor
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.previews import Previews, Stage
from jobs.specs import EditSpec
from jobs.states import State
from producer.client import Client
from producer.dashboard.running import Running, look_at
from tests.pipeline import eventually
from tests.worker.conftest import FEW_STEPS, Bench
from worker.perform import Performer
from worker.previews import Previewer

STEPS = FEW_STEPS.model_copy(update={"steps": 20, "strength": 1.0})


@pytest.fixture
def previews(client: Client) -> Previews:
    return Previews(client.app)


@pytest.fixture
def previewer(previews: Previews, editor: Editor) -> Iterator[Previewer]:
    with Previewer(previews, editor, every=0.0) as previewer:
        yield previewer


@pytest.fixture
def showing(bench: Bench, previewer: Previewer) -> Bench:
    performer = bench.runner._performer
    bench.runner._performer = Performer(
        performer._objects, performer._editor, performer._sources, previewer
    )
    return bench


def queued(bench: Bench, spec: EditSpec, **how: Any) -> list[UUID]:
    """Submit as interactive, unless `how` says otherwise, and announce."""
    made = bench.store.submit([spec], **{"priority": INTERACTIVE_PRIORITY, **how})
    bench.store.take_due(100)
    return [each.job_id for each in made]


def run_beside(bench: Bench, job_id: UUID) -> threading.Thread:
    thread = threading.Thread(target=bench.runner.run, args=([job_id],))
    thread.start()
    return thread


def long_edit(bench: Bench) -> EditSpec:
    return bench.edit("a cat").model_copy(update={"sampler": STEPS})


@pytest.mark.slow
def test_an_edit_that_somebody_looks_at_is_shown_until_it_ends(
    showing: Bench, previews: Previews, client: Client
):
    [job_id] = queued(showing, long_edit(showing))
    previews.ask(job_id)
    running = run_beside(showing, job_id)

    data = eventually(lambda: previews.get(job_id))
    shown_now = look_at(client, client.store.job(job_id))
    running.join()

    shown = Image.open(io.BytesIO(data))
    assert shown.format == "WEBP"
    assert max(shown.size) > 100
    assert shown_now.preview is not None
    assert client.store.job(job_id).state == State.SUCCEEDED
    eventually(lambda: previews.get(job_id) is None)
    assert look_at(client, client.store.job(job_id)) == Running()


def test_who_looks_is_told_of_the_inversion_and_then_of_the_edit(
    showing: Bench, previews: Previews, monkeypatch: pytest.MonkeyPatch
):
    told: list[Stage | None] = []
    tell = Previews.tell

    def keep(self: Previews, job_id: UUID, stage: Stage) -> None:
        tell(self, job_id, stage)
        told.append(self.shown(job_id).stage)

    monkeypatch.setattr(Previews, "tell", keep)
    [job_id] = queued(showing, long_edit(showing))
    previews.ask(job_id)

    showing.runner.run([job_id])

    eventually(lambda: previews.shown(job_id).stage is None)
    assert all(stage and 1 <= stage.step <= stage.steps == STEPS.steps for stage in told)
    assert [doing for doing, _ in groupby(stage.doing for stage in told if stage)] == [
        "inverting",
        "editing",
    ]


@pytest.mark.parametrize(("priority", "asked"), [(0, True), (INTERACTIVE_PRIORITY, False)])
def test_bulk_work_and_what_nobody_looks_at_is_never_shown(
    showing: Bench,
    previews: Previews,
    monkeypatch: pytest.MonkeyPatch,
    priority: int,
    asked: bool,
):
    stored: list[object] = []
    for showing_it in ("put", "tell"):
        monkeypatch.setattr(Previews, showing_it, lambda *shown: stored.append(shown))
    [job_id] = queued(showing, showing.edit(), priority=priority)
    if asked:
        previews.ask(job_id)

    showing.runner.run([job_id])

    assert showing.store.job(job_id).state == State.SUCCEEDED
    assert stored == []


@pytest.mark.parametrize("fault", ["is_asked", "put", "delete"])
def test_a_preview_that_fails_fails_nothing(
    showing: Bench, previews: Previews, monkeypatch: pytest.MonkeyPatch, fault: str
):
    def broken(*_: object) -> None:
        met.set()
        raise RuntimeError("broken on purpose")

    met = threading.Event()
    [job_id] = queued(showing, showing.edit())
    previews.ask(job_id)
    monkeypatch.setattr(Previews, fault, broken)

    showing.runner.run([job_id])

    assert met.wait(10)
    assert showing.store.job(job_id).state == State.SUCCEEDED


def test_a_redis_that_hangs_holds_up_no_step(
    showing: Bench, previews: Previews, monkeypatch: pytest.MonkeyPatch
):
    release, calls = threading.Event(), []

    def hang(*_: object) -> bool:
        calls.append(1)
        release.wait(30)
        return False

    monkeypatch.setattr(Previews, "is_asked", hang)
    [job_id] = queued(showing, showing.edit())
    try:
        # It ends though the first look never does.
        showing.runner.run([job_id])
        assert showing.store.job(job_id).state == State.SUCCEEDED
        assert len(calls) == 1
    finally:
        release.set()


def test_the_result_is_the_same_bit_for_bit(showing: Bench, previews: Previews):
    [plain] = showing.run(showing.edit("a dog"))
    [job_id] = queued(showing, showing.edit("a dog"), force=True)
    previews.ask(job_id)

    showing.runner.run([job_id])

    looked_at = showing.store.job(job_id)
    assert looked_at.id != plain.id
    for role in ("image", "thumbnail", "latents"):
        assert looked_at.result.outputs[role].sha256 == plain.result.outputs[role].sha256
