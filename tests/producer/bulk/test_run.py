"""Submissions of manifests on real services: all or nothing, once, and resumed."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kombu import pools

from jobs.errors import AccessDenied, InvalidInput
from jobs.keys import sha256
from jobs.retention import What
from jobs.settings import Settings, load_settings
from jobs.specs import EditSpec, ModelRef
from jobs.states import State
from producer.bulk import BulkOptions, Plan, Report, Template, open_manifest, run_bulk
from producer.client import Client
from producer.retention import Pruner
from tests.pipeline import edict as running
from tests.pipeline import environment_of, eventually
from tests.producer.conftest import Edict, Finish, png
from tests.servers import S3Server
from worker.failures import SourceRefused

ROOT = Path(__file__).parents[3]
Submit = Callable[..., Report]
OPTIONS = BulkOptions("bulk")


@pytest.fixture
def services(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, s3: S3Server, bucket: str
) -> Iterator[Settings]:
    """Real services on each kind of database."""
    for name, value in {
        "EDICT_DATABASE_URL": database_url,
        "EDICT_REDIS_URL": redis_url,
        "EDICT_S3_ENDPOINT_URL": s3.endpoint_url,
        "EDICT_S3_ACCESS_KEY_ID": s3.access_key_id,
        "EDICT_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        "EDICT_S3_BUCKET": bucket,
    }.items():
        monkeypatch.setenv(name, value)
    yield load_settings()
    pools.reset()


@pytest.fixture
def submit(client: Client) -> Submit:
    def run(where: Path | str, *, dry_run: bool = False, **options: Any) -> Report:
        plan = Plan(client.model, options.pop("template", Template(None, ())))
        manifest = open_manifest(str(where), client.objects)
        wanted = replace(OPTIONS, **options)
        return run_bulk(client, manifest, plan, wanted, dry_run=dry_run)

    return run


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def photographs(count: int) -> list[dict[str, Any]]:
    """Rows of images that lie beside the manifest, with two edits each."""
    rows = []
    for number in range(count):
        Path(f"{number}.png").write_bytes(png((8 + number, 8)))
        rows.append({"image": f"{number}.png", "base_prompt": "x", "edits": ["a cat", "a dog"]})
    return rows


def prompts(client: Client, name: str = "bulk") -> list[str]:
    jobs = client.store.jobs_of(client.store.batch(name).id)
    return [job.spec.edit_prompt for job in jobs if isinstance(job.spec, EditSpec)]


def test_a_manifest_becomes_a_batch_and_again_nothing_is_new(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(3))
    first, again = submit(path), submit(path)
    assert (first.created, first.known, first.rows, first.passed_over) == (6, 0, 3, 0)
    assert (again.created, again.known, again.passed_over) == (0, 0, 3)
    assert prompts(client) == ["a cat", "a dog"] * 3
    assert client.store.counts()[State.PENDING] == 6


def test_the_webhook_of_the_settings_is_told_of_the_batchs_end(
    services: Settings, tmp_path: Path
) -> None:
    told = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_allow": ("127.0.0.1",)}
    with Client(services.model_copy(update=told)) as client:
        manifest = open_manifest(str(write(tmp_path / "m.jsonl", photographs(1))), client.objects)
        run_bulk(client, manifest, Plan(client.model, Template(None, ())), OPTIONS)
        batch = client.store.batch("bulk")
        client.store.cancel([job.id for job in client.store.jobs_of(batch.id)])
        client.store.tell_ended_batches()

        [delivery] = client.store.deliveries()
        assert (delivery.url, delivery.batch_id) == (told["webhook_url"], batch.id)


def test_only_what_is_new_or_changed_is_submitted(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    rows = photographs(3)
    submit(write(tmp_path / "m.jsonl", rows))
    Path("1.png").write_bytes(png((9, 8), "red"))
    rows[2]["edits"].append("a fox")
    later = submit(write(tmp_path / "m.jsonl", rows))
    # Both edits of the changed image, and the new prompt.
    assert (later.created, later.known) == (3, 4)
    assert sum(client.store.counts().values()) == 9


def test_an_image_that_was_pruned_is_uploaded_again(
    submit: Submit, client: Client, finish: Finish, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    client.store.take_due(2)
    finish("bulk", png())
    client.store.set_retention(What.ROWS, 1e-9)
    pruner = Pruner(client.store, client.objects, threading.Event(), source_rest=timedelta(0))
    assert [pruner.run().rows, pruner.run().rows] == [2, 0]

    submit(path)

    jobs = client.store.jobs_of(client.store.batch("bulk").id)
    assert [job.state for job in jobs] == [State.PENDING] * 2
    assert all(client.objects.look(job.spec.source.uri) for job in jobs)


def test_nothing_is_submitted_unless_all_rows_are_good(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = photographs(2)
    rows += [{"image": "none.png", "edits": ["a cat"]}, {**rows[0], "steps": "many"}]
    path = write(tmp_path / "m.jsonl", rows)
    report = submit(path)
    assert (report.submitted, report.refused) == (False, 2)
    assert [each.row.number for each in report.first_refused] == [3, 4]
    assert "none.png" in str(report.first_refused[0])
    assert "steps" in str(report.first_refused[1])
    assert not any(client.store.counts().values())


def test_refused_rows_are_mended_and_submitted_again(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = photographs(2)
    rows.append({"image": "late.png", "base_prompt": "x", "edits": ["a cat"]})
    path = write(tmp_path / "m.jsonl", rows)
    report = submit(path, skip_invalid=True)
    assert (report.submitted, report.created, report.refused) == (True, 4, 1)
    refused = [json.loads(line) for line in Path("rejects.jsonl").read_text().splitlines()]
    assert refused[0]["image"] == "late.png"
    assert refused[0]["_row"] == 3
    # When the row is mended, the rejects are a manifest, which stays as it is if another is wrong.
    Path("late.png").write_bytes(png())
    mended = Path("rejects.jsonl").read_text()
    Path("rejects.jsonl").write_text(mended + '{"image": "later.png", "edit_prompt": "x"}\n')
    again = submit("rejects.jsonl")
    assert (again.created, again.refused, again.rejects) == (0, 1, Path("rejects-2.jsonl"))
    assert Path("rejects.jsonl").read_text().startswith(mended)
    Path("rejects.jsonl").write_text(mended)
    assert submit("rejects.jsonl").created == 1
    assert submit(path).created == 0
    assert len(prompts(client)) == 5


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"base_prompt": float("nan")}, "row", "NaN"),
        ({"base_prompt": {"en": "a cat"}}, "base_prompt", "no text"),
        ({"image": "half \ud83d.png"}, "image", "half a surrogate pair"),
        ({"edit_prompt": "half \ud83d", "edits": None}, "edit_prompt", "half a surrogate pair"),
        ({"edits": ["half \ud83d"]}, "edit_prompt", "\\ud83d"),
        ({"edits": "a cat"}, "edits", "no list"),
        ({"edits": "[" * 100_000}, "edits", "nested 100000 levels deep, over the limit of 100"),
        ({"edits": "[1"}, "edits", "no list"),
        ({"edits": [["a cat"]]}, "edits", "give prompts"),
        ({"edits": ["  "]}, "edit_prompt", "is empty"),
        ({"edits": []}, "edit_prompt", "is missing"),
        ({"image": "../../etc/passwd"}, "image", "lies outside of"),
        ({"image": "s3://somebody-elses/a.png"}, "image", "EDICT_SOURCE_BUCKETS"),
        ({"image": "s3://somebody-elses/a.png", "sha256": "0" * 64}, "image", "EDICT_SOURCE"),
        ({"sha256": "0" * 64}, "sha256", "but the image has"),
        ({"steps": [50]}, "steps", "no single value"),
        ({"strength": 2}, "strength", "less than or equal to 1"),
        ({"model": "unknown"}, "model", "not in the catalogue"),
        ({"kind": "dream"}, "kind", "dream"),
        ({"mask": "words.png"}, "image", "no image"),
    ],
)
def test_each_bad_value_is_named_with_its_row_and_field(
    submit: Submit, tmp_path: Path, row: dict[str, Any], field: str, said: str
) -> None:
    [good] = photographs(1)
    Path("words.png").write_text("words")
    report = submit(write(tmp_path / "m.jsonl", [good, {**good, **row}]), dry_run=True)
    [refused] = report.first_refused
    assert refused.row.number == 2
    assert said in refused.problem
    assert json.loads(Path("rejects.jsonl").read_text())["_field"] == refused.field
    if refused.field not in {"row", "spec"}:
        assert refused.field == field


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ("\n\n", "holds no rows"),
        ('{"img": "a.png", "edit_prompt": "x"}', "--map image=COLUMN"),
        ('{"image": "a.png", "stength": 1, "edit_prompt": "x"}', "strength=stength"),
    ],
)
def test_a_manifest_without_rows_or_with_a_wrong_header_is_refused_as_a_whole(
    submit: Submit, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        submit(tmp_path / "m.jsonl")


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("name", ["", "a" * 201, "two\nlines"])
def test_a_name_that_no_batch_may_have_is_refused_in_a_dry_run_too(
    submit: Submit, tmp_path: Path, name: str, dry_run: bool
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))

    with pytest.raises(InvalidInput, match="must be 1 to 200 printable characters"):
        submit(path, dry_run=dry_run, name=name)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_webhook_of_the_settings_that_is_none_is_refused_before_anything_is_made(
    services: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dry_run: bool
) -> None:
    monkeypatch.setenv("EDICT_WEBHOOK_URL", "ftp://me")
    path = write(tmp_path / "m.jsonl", photographs(1))

    with Client(load_settings()) as client:
        manifest = open_manifest(str(path), client.objects)
        with pytest.raises(InvalidInput, match="webhook"):
            run_bulk(client, manifest, Plan(client.model), OPTIONS, dry_run=dry_run)
        assert client.store.batches(1) == []


def test_duplicate_rows_are_one_job(submit: Submit, client: Client, tmp_path: Path) -> None:
    [row] = photographs(1)
    path = write(tmp_path / "m.jsonl", [row, row])
    report = submit(path, dry_run=True)
    assert report.estimate is not None
    assert (report.estimate.jobs, report.estimate.duplicates, report.estimate.new) == (4, 2, 2)
    assert (report.estimate.inversions, report.estimate.shared) == (1, 1)
    assert not any(client.store.counts().values())
    assert submit(path).created == 2
    assert sum(client.store.counts().values()) == 2


def test_a_dry_run_prices_by_what_was_measured(
    submit: Submit, client: Client, finish: Finish, tmp_path: Path
) -> None:
    rows = photographs(2)
    submit(write(tmp_path / "m.jsonl", rows[:1]))
    client.store.take_due(9)
    time.sleep(0.01)
    finish("bulk", png())
    report = submit(write(tmp_path / "m.jsonl", rows), dry_run=True)
    found = report.estimate
    assert found is not None
    assert (found.done, found.new, found.inversions) == (2, 2, 1)
    assert found.device_hours is not None
    assert found.device_hours > 0
    assert found.storage_bytes == 2 * len(png())


def test_limit_takes_the_first_rows_and_a_sample_is_the_same_each_time(
    submit: Submit, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(9))
    assert submit(path, limit=2).created == 4
    assert submit(path, sample=4, name="sample").rows == 4
    assert submit(path, sample=4, name="sample").passed_over == 4


def test_force_makes_new_jobs(submit: Submit, client: Client, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    assert submit(path, force=True).created == 2
    assert sum(client.store.counts().values()) == 4


def test_failed_jobs_of_rows_that_are_in_already_are_tried_again(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    submit(path)
    job = client.store.jobs_of(client.store.batch("bulk").id)[0]
    client.store.cancel([job.id])
    assert submit(path).revived == 1
    assert client.store.job(job.id).state == State.PENDING


def lose_image(client: Client, number: int) -> list[UUID]:
    """Take an image of the batch out of the bucket, and fail its jobs as a worker does."""
    client.store.take_due(100)
    all_jobs = client.store.jobs_of(client.store.batch("bulk").id)
    uris = list(dict.fromkeys(job.spec.source.uri for job in all_jobs))
    client.objects.delete(client.objects.locate(uris[number])[1])
    failed = [job.id for job in all_jobs if job.spec.source.uri == uris[number]]
    for claim in client.store.claim(failed, "w1", lease=30):
        client.store.fail(claim, SourceRefused.code, f"{uris[number]} does not exist")
    return failed


@pytest.mark.parametrize("skip_invalid", [False, True])
def test_an_image_that_vanished_is_uploaded_again_before_its_jobs_are_tried_again(
    submit: Submit, client: Client, tmp_path: Path, skip_invalid: bool
) -> None:
    # Given a batch whose second image vanished, so that its two jobs failed
    path = write(tmp_path / "m.jsonl", photographs(3))
    submit(path)
    failed = lose_image(client, 1)
    assert [client.store.job(each).state for each in failed] == [State.FAILED] * 2

    # When the same manifest is submitted again
    again = submit(path, skip_invalid=skip_invalid)

    # Then they wait, and the image is there
    jobs = [client.store.job(each) for each in failed]
    assert [job.state for job in jobs] == [State.PENDING] * 2
    assert all(client.objects.look(job.spec.source.uri) for job in jobs)
    assert (again.created, again.restored) == (0, 1)
    assert submit(path).restored == 0


def test_an_image_that_vanished_here_as_well_is_refused_by_its_row(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", photographs(2))
    submit(path)
    lose_image(client, 0)
    Path("0.png").unlink()

    again = submit(path)

    assert not again.submitted
    assert [(each.row.number, each.field) for each in again.first_refused] == [(1, "image")]


def test_a_bucket_prefix_with_sidecars_and_a_cross_product(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        client.objects.put(f"mine/{name}.png", png((8 + ord(name), 8)), "image/png")
        client.objects.put(f"mine/{name}.txt", f"photo {name}".encode(), "text/plain")
    to = ["{caption}, in {season}"]
    template = Template.parse("{caption}", to, {"season": ["winter", "summer"]})
    prefix = client.objects.uri("mine/")
    report = submit(prefix, template=template)
    assert (report.rows, report.created) == (2, 4)
    assert sorted(prompts(client)) == [
        f"photo {name}, in {season}" for name in "ab" for season in ("summer", "winter")
    ]
    # One object is written anew: its edits alone are new.
    client.objects.delete("mine/a.png")
    client.objects.put("mine/a.png", png((99, 8)), "image/png")
    assert submit(prefix, template=template).created == 2


def test_a_manifest_in_the_bucket_names_images_beside_it(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    client.objects.put("set/x/a.png", png(), "image/png")
    rows = [{"image": "x/a.png", "edit_prompt": "a cat"}, {"image": "/etc/hosts", "edits": ["x"]}]
    client.objects.put("set/m.jsonl", "\n".join(map(json.dumps, rows)).encode(), "text/plain")
    report = submit(client.objects.uri("set/m.jsonl"), skip_invalid=True)
    assert (report.created, report.refused) == (1, 1)


def test_a_bucket_that_denies_one_image_in_ten_refuses_those_rows_and_takes_them_later(
    submit: Submit, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for n in range(20):
        client.objects.put(f"in/{n}.png", png((8 + n, 8)), "image/png")
        rows.append({"image": client.objects.uri(f"in/{n}.png"), "edits": ["a cat"]})
    path = write(tmp_path / "m.jsonl", rows)
    look = type(client.objects).look

    def deny(self: Any, uri: str) -> Any:
        if uri.endswith("3.png"):
            raise AccessDenied(f"{uri} is refused")
        return look(self, uri)

    with monkeypatch.context() as patch:
        patch.setattr(type(client.objects), "look", deny)
        assert not submit(path).submitted
        assert not any(client.store.counts().values())
        some = submit(path, skip_invalid=True)
    assert (some.created, some.refused) == (18, 2)
    assert {each.row.number for each in some.first_refused} == {4, 14}
    later = submit(path)
    assert (later.created, later.refused) == (2, 0)
    assert sum(client.store.counts().values()) == 20


def test_of_mixed_encodings_the_lines_that_are_utf8_are_taken(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    [row] = photographs(1)
    lines = [{**row, "edits": [prompt]} for prompt in ("café", "naïve", "犬")]
    encoded = [json.dumps(line, ensure_ascii=False) for line in lines]
    mixed = [encoded[0].encode(), encoded[1].encode("latin-1"), encoded[2].encode()]
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(mixed))
    report = submit(tmp_path / "m.jsonl", skip_invalid=True)
    assert (report.created, report.refused) == (2, 1)
    assert "row 2: row: is not UTF-8" in str(report.first_refused[0])
    assert prompts(client) == ["café", "犬"]
    # A file that is in another encoding as a whole has no line that is taken.
    (tmp_path / "wide.jsonl").write_bytes("\n".join(encoded).encode("utf-16"))
    with pytest.raises(InvalidInput, match="is UTF-16; save it as UTF-8"):
        submit(tmp_path / "wide.jsonl", name="wide")


def test_a_gate_goes_with_the_batch(submit: Submit, client: Client, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", photographs(1))
    with pytest.raises(InvalidInput, match="gate"):
        submit(path, gate=("beauty>=1",))
    submit(path, gate=("psnr>=18",))
    submit(path)
    assert client.store.gate_of(client.store.batch("bulk").id) == ("psnr>=18",)


def test_rows_that_say_their_digest_are_not_read(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    row = {"image": client.objects.uri("not/there.png"), "sha256": "A" * 64, "edit_prompt": "x"}
    assert submit(write(tmp_path / "m.jsonl", [row])).created == 1
    [job] = client.store.jobs_of(client.store.batch("bulk").id)
    assert job.spec.source.sha256 == "a" * 64


def test_a_plan_that_spells_out_what_is_usual_is_the_same_plan() -> None:
    def described(**defaults: Any) -> dict[str, Any]:
        return Plan(lambda name: ModelRef(name=name or "demo"), defaults=defaults).describe()

    usual = {"sampler": "edict", "steps": 50, "strength": 0.8, "fit": "crop", "model": "demo"}
    assert described(**usual) == described()
    for other in ({"steps": 49}, {"fit": "fit"}, {"model": "other"}, {"negative_prompt": "fog"}):
        assert described(**{**usual, **other}) != described()


@pytest.mark.slow
def test_a_submission_that_is_killed_goes_on_where_it_was(
    services: Settings, client: Client, edict: Edict, tmp_path: Path
) -> None:
    uri = client.objects.uri("photos")
    rows = [
        {"image": f"{uri}/{n}.png", "sha256": sha256(str(n).encode()), "edits": ["a cat", "a dog"]}
        for n in range(4_000)
    ]
    path = write(tmp_path / "m.jsonl", rows)
    environment = {**environment_of(services), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "bulk.log"
    child = running("bulk", str(path), "--name", "bulk", environment=environment, log=log)
    # Given a process that is killed after its first chunks
    with child:
        eventually(lambda: any(client.store.counts().values()))
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    before = sum(client.store.counts().values())
    # When the same is submitted again, then what was committed is passed over
    report = json.loads(edict("bulk", path, "--name", "bulk", "--json").stdout)
    assert 0 < before <= 8_000
    assert report["passed_over"] == before / 2
    assert (report["created"], report["known"]) == (8_000 - before, 0)
    assert sum(client.store.counts(client.store.batch("bulk").id).values()) == 8_000


def test_the_command_line_submits_and_says_what_became_of_it(
    edict: Edict, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text("file_path,caption,extra\n0.png,a cat,1\n")
    photographs(1)
    common = ["--name", "cli", "--map", "image=file_path", "--from", "{caption}"]
    options = [*common, "--to", "{caption}, in {season}", "--vary", "season=winter,summer"]
    dry = edict("bulk", "m.csv", *options, "--dry-run", "--json", "--steps", "10")
    assert dry.exit_code == 0
    assert json.loads(dry.stdout[dry.stdout.index("{\n") :])["estimate"]["new"] == 2
    done = edict("bulk", "m.csv", *options, "--steps", "10")
    assert done.exit_code == 0
    assert "2 jobs made" in done.stderr
    assert "columns that nothing uses: extra" in done.stderr
    [one, _] = client.store.jobs_of(client.store.batch("cli").id)
    assert (one.spec.sampler.steps, one.spec.base_prompt) == (10, "a cat")


def test_the_command_line_refuses_and_names_the_rejects(edict: Edict, client: Client) -> None:
    Path("m.jsonl").write_text('{"image": "none.png", "edit_prompt": "x"}\n')
    done = edict("bulk", "m.jsonl", "--name", "cli")
    assert done.exit_code == 1
    assert "refused row 1: image:" in done.stderr
    assert "1 of 1 rows refused" in done.stderr
    assert "nothing was submitted" in done.stderr
    assert Path("rejects.jsonl").exists()
    assert edict("bulk", "m.jsonl", "--name", "x", "--priority", "high").exit_code == 2
