"""`edict eval` at the real command line, in its own process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.worker.conftest import TINY_MODEL, picture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUICK = ("--model", TINY_MODEL, "--device", "cpu", "--steps", "2", "--rows", "4")


def evaluate(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    kind, *others = map(str, arguments)
    command = [sys.executable, "-m", "producer.cli", "eval", kind, *QUICK, *others]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


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


def test_captions_come_from_beside_the_images(folder: Path):
    (folder / "broken.jpg").unlink()
    (folder / "one.txt").write_text("a cat\n")

    done = evaluate("reconstruction", folder)

    assert done.returncode == 1
    assert "below/two.png: it has no caption" in done.stderr
    assert "edict" in done.stdout
    assert "MSE" in done.stdout


def test_captions_come_from_a_list(folder: Path):
    (folder / "broken.jpg").unlink()
    rows = [{"image": name, "prompt": "a cat"} for name in ("one.png", "below/two.png")]
    captions = folder / "captions.jsonl"
    captions.write_text("\n".join(map(json.dumps, rows)))

    done = evaluate("reconstruction", folder, "--captions", captions)

    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["reconstruction", "nowhere"], "nowhere is no folder"),
        (["reconstruction", "docs", "--prompt", "a", "--strength", "2"], "strength is 2.0"),
        (["reconstruction", "docs", "--prompt", "a", "--device", "abacus"], "'abacus'"),
        (["edits", "nothing.jsonl"], "nothing.jsonl is no file"),
        (["edits", "README.md"], "no image is left"),
    ],
)
def test_what_cannot_be_compared_is_said_at_once(arguments: list[str], text: str):
    done = evaluate(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_without_a_trace(folder: Path, number: signal.Signals):
    arguments = ["reconstruction", str(folder), "--prompt", "a cat", *QUICK, "--steps", "1000"]
    command = [sys.executable, "-m", "producer.cli", "eval", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        # What is refused is said just before the network starts.
        assert process.stderr is not None
        assert "broken.jpg" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout, stderr.strip()) == (130, "", "stopped")
