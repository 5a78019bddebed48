"""`edict eval` at the real command line, in its own process where that matters."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from edict_engine.errors import EngineError
from edict_engine.quality import measures
from tests.weights import place_lpips, write_clip
from tests.worker.conftest import TINY_MODEL, picture
from worker.quality.__main__ import _parser, _run
from worker.quality.inputs import InputError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUICK = ("--model", TINY_MODEL, "--device", "cpu", "--steps", "2", "--rows", "4")


def evaluate(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    kind, *others = map(str, arguments)
    command = [sys.executable, "-m", "producer.cli", "eval", kind, *QUICK, *others]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def compare(*arguments: str | Path) -> int:
    """The same in this process, as torch is here already; returns the exit status."""
    options = ("--strength", "1", "--guidance", "7", "--dtype", "float32")
    kind, *others = map(str, arguments)
    parsed = _parser().parse_args([kind, *QUICK, *options, *others])
    return _run(parsed, threading.Event())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in a folder below, and what only looks like one."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    (folder / "one.png").write_bytes(picture(0))
    (folder / "below" / "two.png").write_bytes(picture(1))
    (folder / "broken.jpg").write_bytes(picture(2)[:300])
    return folder


def test_a_broken_file_is_named_and_the_others_are_compared(folder: Path):
    done = evaluate("reconstruction", folder, "--prompt", "a cat", "--json")

    assert done.returncode == 1, done.stderr
    assert "broken.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    rows = {row["method"]: row for row in found["rows"]}
    assert {"vae", "edict", "ddim-c", "ddim-uc"} <= rows.keys()
    assert {row["images"] for row in rows.values()} == {2}
    assert rows["edict"]["mse"] == pytest.approx(rows["vae"]["mse"], abs=1e-6)
    assert [failure["name"] for failure in found["failures"]] == ["broken.jpg"]
    assert found["settings"]["guidance"] == 7
    assert found["rows"][0]["lpips"] is not None or "lpips" in found["absent"]


def test_captions_come_from_beside_the_images(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "broken.jpg").unlink()
    (folder / "one.txt").write_text("a cat\n")

    assert compare("reconstruction", folder) == 1

    said = capsys.readouterr()
    assert "below/two.png: it has no caption" in said.err
    assert "edict" in said.out
    assert "MSE" in said.out


def test_captions_come_from_a_list(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "broken.jpg").unlink()
    rows = [{"image": name, "prompt": "a cat"} for name in ("one.png", "below/two.png")]
    captions = folder / "captions.jsonl"
    captions.write_text("\n".join(map(json.dumps, rows)))

    assert compare("reconstruction", folder, "--captions", captions) == 0

    assert "edict" in capsys.readouterr().out


def test_a_bad_row_is_named_by_number_and_field_and_the_others_are_edited(folder: Path):
    good = {"image": "one.png", "base_prompt": "a cat", "edit_prompt": "a blue cat"}
    bad = [
        {**good, "edit_prompt": ""},
        {**good, "colour": "blue"},
        {**good, "image": "nothing.png"},
        {**good, "mask": "below/small.png"},
        ["no object"],
    ]
    (folder / "below" / "small.png").write_bytes((ROOT / "docs" / "demo.png").read_bytes())
    lines = [good, *bad, {**good, "mask": "below/two.png"}]
    manifest = folder / "edits.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\nnonsense\n")

    done = evaluate("edits", manifest, "--json")

    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    rows = {row["method"]: row for row in found["rows"]}
    assert {"vae", "edict", "ddim", "sdedit"} <= rows.keys()
    for row in rows.values():
        assert row["images"] == 2
        assert row["psnr_outside"] > 0
        assert row["structure_distance"] > 0
        assert row["obeyed"]["trials"] == 2
    said = {failure["name"].split(" (")[0]: failure["message"] for failure in found["failures"]}
    expected = {2: "edit_prompt:", 3: "colour:", 4: "no file", 5: "mask:", 6: "object", 8: "JSON"}
    assert said.keys() == {f"row {number}" for number in expected}
    for number, text in expected.items():
        assert text in said[f"row {number}"]
        assert f"row {number}" in done.stderr


def test_an_edit_is_judged_by_the_clip_model_that_is_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    order = {"image": "one.png", "base_prompt": "a cat", "edit_prompt": "a blue cat"}
    manifest = folder / "edits.jsonl"
    manifest.write_text(json.dumps(order))

    for given in ([], ["--clip", write_clip(tmp_path / "clip")]):
        assert compare("edits", manifest, "--json", *given) == 0

        found = json.loads(capsys.readouterr().out)
        judged = [row["clip"] for row in found["rows"]]
        assert ("clip" in found["absent"]) == (not given)
        assert all(-1 <= each <= 1 for each in judged) if given else set(judged) == {None}


def test_lpips_is_in_the_table_where_its_weights_are(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (folder / "broken.jpg").unlink()
    place_lpips(monkeypatch, tmp_path)

    assert compare("reconstruction", folder, "--prompt", "a cat", "--json") == 0

    measures._load_lpips.cache_clear()
    found = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row["lpips"] for row in found["rows"]}
    assert found["absent"] == {}
    assert rows["edict"] == pytest.approx(rows["vae"], abs=1e-6)
    assert min(rows.values()) > 0


REFUSED = [
    (["reconstruction", "docs", "--prompt", "a", "--strength", "2"], "strength is 2.0"),
    (["reconstruction", "docs", "--prompt", "a", "--device", "abacus"], "'abacus'"),
    (["reconstruction", "docs", "--prompt", "a", "--model", "demo+lora=a:x"], "scale 'x'"),
    (["edits", "nothing.jsonl"], "nothing.jsonl is no file"),
    (["edits", "README.md"], "no image is left"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_what_cannot_be_compared_is_refused(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)

    with pytest.raises((EngineError, InputError), match=text):
        compare(*arguments)


def test_what_is_refused_is_said_at_once_without_a_trace():
    done = evaluate("reconstruction", "nowhere")

    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere is no folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_it_without_a_trace(folder: Path):
    numbers = [signal.SIGINT, signal.SIGTERM]
    arguments = ["reconstruction", str(folder), "--prompt", "a cat", *QUICK, "--steps", "1000"]
    command = [sys.executable, "-m", "producer.cli", "eval", *arguments]
    with ExitStack() as stack:
        processes = [stack.enter_context(_piped(command)) for _ in numbers]
        for process, number in zip(processes, numbers, strict=True):
            # What is refused is said just before the network starts.
            assert process.stderr is not None
            assert "broken.jpg" in process.stderr.readline()
            time.sleep(1)
            process.send_signal(number)
        for process in processes:
            stdout, stderr = process.communicate(timeout=60)
            assert (process.returncode, stdout, stderr.strip()) == (130, "", "stopped")


def _piped(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
