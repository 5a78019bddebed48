"""The real command line, servers, worker processes and shipped model, from pictures to pixels."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import skimage
from PIL import Image

from jobs.processes import Child
from tests.pipeline import edict, eventually, is_alive

pytestmark = pytest.mark.slow

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"


def shell(home: Path) -> dict[str, str]:
    """The variables of a shell that knows where the stack is, and little else."""
    # Where the checkout is not the one installed, its own code is to run.
    code = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "EDICT_HOME": str(home), "COLUMNS": "200", **code}


class Stack(NamedTuple):
    """A running `edict up`, and how to use it from another shell."""

    process: Child
    home: Path

    def run(self, *arguments: str, expect: int = 0) -> str:
        status, text = self.try_to_run(*arguments)
        assert status == expect, text
        return text

    def try_to_run(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("edict"), *arguments],
            env=shell(self.home),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def settings(self) -> dict[str, str]:
        return json.loads((self.home / "stack.json").read_text())["environment"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`edict up` with two CPU devices."""
    folder = tmp_path_factory.mktemp("up")
    home = folder / "home"
    process = edict("up", "--home", str(home), environment={}, log=folder / "up.log")
    with process:
        eventually((home / "stack.json").exists)
        stack = Stack(process, home)
        # All is well as soon as the workers have loaded the model.
        eventually(lambda: stack.try_to_run("doctor")[0] == 0, seconds=240)
        yield stack


@pytest.fixture(scope="module")
def batch(stack: Stack) -> Stack:
    """Two photographs, each reconstructed and edited twice."""
    images = [str(PHOTOGRAPHS / name) for name in ("coffee.png", "chelsea.png")]
    options = ["--from", "a photo", "--steps", "20", "--batch", "pictures"]
    stack.run("submit", "reconstruct", *images, *options)
    edits = ["--to", "a pencil sketch", "--to", "a photo at night"]
    stack.run("submit", "edit", *images, *edits, *options, "--wait")
    stack.run("watch", "pictures")
    return stack


@pytest.fixture(scope="module")
def rows(batch: Stack) -> list[dict]:
    """The jobs, read with plain SQL."""
    import sqlite3

    with closing(sqlite3.connect(batch.home / "edict.db")) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM jobs ORDER BY id")]
    for row in rows:
        row["spec"], row["result"] = json.loads(row["spec"]), json.loads(row["result"])
    return rows


@pytest.fixture(scope="module")
def read(batch: Stack):
    """Reads an object with plain boto3."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=batch.settings["EDICT_S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=batch.settings["EDICT_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=batch.settings["EDICT_S3_SECRET_ACCESS_KEY"],
    )
    bucket = batch.settings["EDICT_S3_BUCKET"]

    def read(key: str) -> bytes:
        with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            return body.read()

    with closing(client):
        yield read


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def of_kind(rows: list[dict], kind: str) -> list[dict]:
    return [row for row in rows if row["kind"] == kind]


def test_every_job_succeeded_at_its_first_attempt(rows: list[dict]):
    assert [row["state"] for row in rows] == ["succeeded"] * 6
    assert [row["attempts"] for row in rows] == [1] * 6
    assert {row["kind"] for row in rows} == {"reconstruction", "edit"}


def test_reconstructions_are_exact_and_equal_the_vaes_own_round_trip(rows, read):
    import torch

    from edict_engine.images import load_image, to_image, to_pixels
    from edict_engine.model import load_model

    model = load_model("demo")
    for row in of_kind(rows, "reconstruction"):
        # The last bits of a CPU's sums depend on the thread count: take the worker's.
        torch.set_num_threads(int(re.search(r"threads=(\d+)", row["result"]["fingerprint"])[1]))
        source = read(row["spec"]["source"]["uri"].split("/", 3)[3])
        image = load_image(source, size=model.default_size, multiple=model.pixel_factor)
        expected = to_image(model.decode(model.encode(to_pixels(image))))

        assert row["result"]["exact"] is True
        assert row["result"]["max_error"] == 0
        made = pixels(read(row["result"]["outputs"]["image"]["key"]))
        assert np.array_equal(made, np.asarray(expected))


def test_edits_differ_from_the_reconstruction_and_from_each_other(rows, read):
    images = {}
    for row in rows:
        name = (row["spec"]["source"]["sha256"], row["spec"].get("edit_prompt"))
        images[name] = pixels(read(row["result"]["outputs"]["image"]["key"])).astype(int)

    assert len(images) == 6
    for (source, prompt), image in images.items():
        others = [images[key] for key in images if key[0] == source and key[1] != prompt]
        assert all(np.abs(image - other).mean() > 5 for other in others)


def test_one_stored_inversion_serves_all_jobs_of_an_image(rows, read):
    from safetensors.numpy import load

    by_source: dict[str, set[str]] = {}
    for row in rows:
        key = row["result"]["outputs"]["latents"]["key"]
        by_source.setdefault(row["spec"]["source"]["sha256"], set()).add(key)

    assert all(len(keys) == 1 for keys in by_source.values())
    for keys in by_source.values():
        tensors = load(read(keys.pop()))
        assert tensors["x"].dtype == tensors["y"].dtype == np.int64
        assert not np.array_equal(tensors["x"], tensors["y"])


def test_objects_are_what_the_rows_say(rows, read):
    from hashlib import sha256

    for row in rows:
        for output in row["result"]["outputs"].values():
            data = read(output["key"])
            assert (sha256(data).hexdigest(), len(data)) == (output["sha256"], output["size"])


def test_the_same_submission_again_makes_no_new_job(batch: Stack, rows: list[dict]):
    image = str(PHOTOGRAPHS / "coffee.png")
    before = batch.run("status", "pictures")

    batch.run(
        *("submit", "edit", image, "--from", "a photo", "--to", "a pencil sketch"),
        *("--steps", "20", "--batch", "pictures", "--wait"),
    )

    assert batch.run("status", "pictures") == before


def test_results_come_down_into_a_folder(batch: Stack, rows: list[dict], tmp_path: Path):
    batch.run("results", "pictures", "--to", str(tmp_path))

    found = [pixels(path.read_bytes()).shape for path in tmp_path.rglob("*.png")]
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_result_can_be_made_again_from_its_own_file(batch: Stack, tmp_path: Path):
    batch.run("results", "pictures", "--out", str(tmp_path))
    results = sorted(tmp_path.glob("*.png"))
    assert all(path.with_suffix(".json").is_file() for path in results)

    assert "the same bytes" in batch.run("reproduce", str(results[-1]))
    foreign = batch.run("reproduce", str(PHOTOGRAPHS / "coffee.png"), expect=2)
    assert "holds no recipe of ours" in foreign


def test_a_masked_edit_keeps_the_sources_own_bytes_and_comes_again(batch: Stack, tmp_path: Path):
    source = tmp_path / "cat.png"
    cat = Image.open(PHOTOGRAPHS / "chelsea.png").crop((0, 0, 64, 64))
    cat.save(source)
    mask = Image.new("L", cat.size, 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    # As large as the model's pictures: what the worker prepares is the file itself.
    options = ["--from", "a photo", "--to", "a sketch", "--steps", "10", "--batch", "kept"]
    masked = ["--mask", str(tmp_path / "mask.png"), "--keep-pixels", "--wait"]
    batch.run("submit", "edit", str(source), *options, *masked)
    batch.run("results", "kept", "--out", str(tmp_path / "kept"))

    [result] = (tmp_path / "kept").glob("*.png")
    made, before = np.asarray(Image.open(result)), np.asarray(cat)
    assert np.array_equal(made[:, 36:], before[:, 36:])
    assert not np.array_equal(made[:, :32], before[:, :32])
    assert "the same bytes" in batch.run("reproduce", str(result))


def test_a_job_can_be_looked_at(batch: Stack, rows: list[dict]):
    import uuid

    [row, *_] = of_kind(rows, "reconstruction")

    text = batch.run("status", str(uuid.UUID(row["id"])))

    assert "succeeded" in text
    assert row["result"]["outputs"]["image"]["key"] in text


def test_bad_pictures_are_refused_at_the_door_and_good_ones_submitted(batch: Stack, tmp_path: Path):
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "cut.png").write_bytes((PHOTOGRAPHS / "coffee.png").read_bytes()[:5000])
    good = str(PHOTOGRAPHS / "rocket.jpg")

    text = batch.run(
        *("submit", "edit", str(tmp_path / "text.png"), str(tmp_path / "cut.png"), good),
        *("--from", "a photo", "--to", "a photo at night", "--steps", "4", "--batch", "mixed"),
        expect=1,
    )

    assert "text.png is no image" in text
    assert "cut.png is damaged" in text
    batch.run("watch", "mixed")
    assert re.search(r"succeeded\W+1\b", batch.run("status", "mixed"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "a cat", "--strength", "1.5"), "strength"),
        (("--to", "a cat", "--steps", "0"), "steps"),
        (("--to", "a cat", "--steps", "1001"), "steps"),
        (("--to", "a cat", "--model", "unheard-of"), "catalogue"),
    ],
)
def test_wrong_options_are_refused_with_their_name(batch: Stack, arguments, words: str):
    image = str(PHOTOGRAPHS / "coffee.png")

    text = batch.run("submit", "edit", image, "--from", "a photo", *arguments, expect=2)

    assert words in text
    assert "Traceback" not in text


def test_a_prompt_longer_than_the_tokenizer_takes_fails_and_says_so(batch: Stack):
    image = str(PHOTOGRAPHS / "coffee.png")

    batch.run(
        *("submit", "edit", image, "--from", "a photo", "--to", "a photo " * 60),
        *("--batch", "wordy", "--wait"),
        expect=1,
    )

    assert "prompt_too_long" in batch.run("status", "wordy")


def test_an_empty_prompt_is_refused_for_an_edit(batch: Stack):
    image = str(PHOTOGRAPHS / "coffee.png")

    text = batch.run("submit", "edit", image, "--from", "a photo", "--to", " ", expect=1)

    assert "edit_prompt: is empty" in text


def test_ctrl_c_stops_everything(tmp_path: Path):
    home = tmp_path / "home"
    process = edict("up", "--home", str(home), environment={}, log=tmp_path / "up.log").start()
    eventually((home / "stack.json").exists)
    eventually(lambda: descendants(process.pid))
    pids = descendants(process.pid)

    signal_to(process, signal.SIGINT)

    assert process.wait(60) is not None
    eventually(lambda: not any(is_alive(pid) for pid in pids))


def signal_to(process: Child, number: signal.Signals) -> None:
    """Send a signal to that process alone, as a person's `kill` would."""
    os.kill(process.pid, number)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def readme_block(after: str) -> str:
    """The first fenced block of the README after these words."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    return re.search(r"```\w*\n(.*?)```", text[text.index(after) :], re.DOTALL).group(1)


@pytest.fixture
def cat(stack: Stack) -> None:
    """The README's `cat.jpg`, where its commands are run."""
    with Image.open(PHOTOGRAPHS / "chelsea.png") as image:
        image.save(stack.home / "cat.jpg")


def test_the_readmes_commands_work(stack: Stack, cat: None):
    commands = readme_block("and in another, from the same folder").replace("\\\n", " ")

    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/edict"
        stack.run(*arguments)

    made = sorted(path.name for path in (stack.home / "edited").glob("*.png"))
    assert len(made) == 3


def test_the_readmes_python_works(stack: Stack, cat: None):
    done = subprocess.run(
        [sys.executable, "-c", readme_block("From Python:")],
        env=shell(stack.home),
        cwd=stack.home,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "succeeded 1.0"


def test_sigkill_stops_everything(stack: Stack):
    """Comes last: it kills the stack of the tests before."""
    pids = descendants(stack.process.pid)
    assert len(pids) >= 5

    signal_to(stack.process, signal.SIGKILL)
    stack.process.wait(10)

    eventually(lambda: not any(is_alive(pid) for pid in pids))
