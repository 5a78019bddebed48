"""Submissions of manifests on real services: all or nothing, and each once."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InvalidInput
from jobs.settings import Settings, load_settings
from jobs.specs import EditSpec, ModelRef, Source
from producer.bulk import Plan, Template, open_manifest, run_bulk
from producer.client import Client
from tests.producer.bulk.conftest import OPTIONS, Submit, photographs, prompts, write
from tests.producer.conftest import Edict, Finish, png


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


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"base_prompt": float("nan")}, "row", "NaN"),
        ({"base_prompt": {"en": "a cat"}}, "base_prompt", "no text"),
        ({"sampler": ["edict"]}, "sampler", "no text"),
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
        ({"keep_pixels": True}, "keep_pixels", "there is no mask"),
        ({"mask": "auto", "keep_pixels": "often"}, "keep_pixels", "boolean"),
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
@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "two\nlines"])
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


def test_rows_and_their_edits_say_where_pixels_are_kept(
    submit: Submit, client: Client, tmp_path: Path
) -> None:
    [row] = photographs(1)
    edits = ["a cat", {"edit_prompt": "a dog", "keep_pixels": False}]
    submit(write(tmp_path / "m.jsonl", [{**row, "edits": edits, "mask": "auto", "keep_pixels": 1}]))

    jobs = client.store.jobs_of(client.store.batch("bulk").id)
    kept = {job.spec.edit_prompt: job.spec.keep_pixels for job in jobs}
    assert kept == {"a cat": True, "a dog": False}


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


def test_what_a_row_says_goes_before_what_the_command_line_says_of_its_edits(
    edict: Edict, client: Client, tmp_path: Path
) -> None:
    own = {"mask": "0.png", "mix": 0.9, "edit_guidance_scale": 5}
    write(tmp_path / "m.jsonl", [photographs(1)[0], {**photographs(1)[0], **own}])
    local = ["--mask", "auto", "--keep-pixels", "--edit-guidance", "6", "--attention-control"]
    done = edict("bulk", "m.jsonl", "--name", "cli", *local, "--mix", "0.78")
    assert done.exit_code == 0, done.stderr
    specs = [job.spec for job in client.store.jobs_of(client.store.batch("cli").id)]
    edits = [spec for spec in specs if isinstance(spec, EditSpec)]
    assert len(edits) == 4
    assert all(edit.keep_pixels and edit.attention_control for edit in edits)
    found = sorted(edit.sampler.mix for edit in edits if edit.mask == "auto")
    given = [edit for edit in edits if isinstance(edit.mask, Source)]
    assert found == [0.78, 0.78]
    assert {(edit.sampler.mix, edit.edit_guidance_scale) for edit in given} == {(0.9, 5)}


def test_the_command_line_refuses_and_names_the_rejects(edict: Edict, client: Client) -> None:
    Path("m.jsonl").write_text('{"image": "none.png", "edit_prompt": "x"}\n')
    done = edict("bulk", "m.jsonl", "--name", "cli")
    assert done.exit_code == 1
    assert "refused row 1: image:" in done.stderr
    assert "1 of 1 rows refused" in done.stderr
    assert "nothing was submitted" in done.stderr
    assert Path("rejects.jsonl").exists()
    assert edict("bulk", "m.jsonl", "--name", "x", "--priority", "high").exit_code == 2
