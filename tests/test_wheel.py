"""The wheel, built and installed elsewhere without the worker's extra."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path) -> str:
    """Run a command far from the checkout; its output, or a failure that shows it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EDICT_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, folder=folder)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    run(*pip, "-c", ROOT / "constraints.txt", wheel, folder=folder)
    return folder / "venv" / "bin"


def test_the_base_install_has_no_torch(installed: Path, tmp_path: Path):
    code = (
        "import importlib.util as u; print([n for n in ('torch', 'diffusers') if u.find_spec(n)])"
    )

    assert run(installed / "python", "-c", code, folder=tmp_path).strip() == "[]"


def test_the_command_line_answers(installed: Path, tmp_path: Path):
    text = run(installed / "edict", "--help", folder=tmp_path)

    assert all(name in text for name in ("up", "demo", "submit", "watch", "doctor"))


def test_migrations_travel_inside_the_wheel(installed: Path, tmp_path: Path):
    code = (
        "import os, sys; os.environ['EDICT_DATABASE_URL'] = 'sqlite:///there.db';"
        "sys.argv = ['edict', 'migrate']; from producer.cli import main; main()"
    )
    run(installed / "python", "-c", code, folder=tmp_path)

    import sqlite3

    with sqlite3.connect(tmp_path / "there.db") as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    database.close()
    assert {"jobs", "batches", "alembic_version"} <= tables


def test_the_shipped_model_and_the_demo_travel_too(installed: Path, tmp_path: Path):
    code = (
        "import edict_engine, producer, pathlib as p;"
        "print([(p.Path(edict_engine.__file__).parent / 'small_model/model_index.json').is_file(),"
        "len(list((p.Path(producer.__file__).parent / 'demo').glob('*.jsonl'))) > 0])"
    )

    assert run(installed / "python", "-c", code, folder=tmp_path).strip() == "[True, True]"
