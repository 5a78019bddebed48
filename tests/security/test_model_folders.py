"""A model folder may come from anywhere: it is data, and none of it is run."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from edict_engine.errors import EngineError
from edict_engine.model import load_model
from tests.worker.conftest import TINY_MODEL

PARTS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
pytestmark = pytest.mark.slow
KINDS = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Is there if any of the folder's code ran."""
    return tmp_path / "it-ran"


@pytest.fixture
def folder(tmp_path: Path, mark: Path) -> Path:
    """A good model, with code in every part that the libraries know a name for."""
    folder = tmp_path / "model"
    shutil.copytree(TINY_MODEL, folder)
    code = f"open({str(mark)!r}, 'w')\nclass Evil: pass\n"
    for place in (folder, *(folder / part for part in PARTS)):
        for name in ("evil.py", "pipeline.py", "__init__.py", "modeling_evil.py"):
            (place / name).write_text(code)
    for part, name in PARTS.items():
        change(folder / part / name, auto_map=dict.fromkeys(KINDS, "evil.Evil"))
    return folder


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_no_code_of_a_model_is_ever_asked_for(folder: Path, mark: Path):
    model = load_model(str(folder), dtype=torch.float32)

    assert model.revision
    assert not mark.exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_part_of_a_kind_of_its_own_is_refused_and_not_run(folder: Path, mark: Path, part: str):
    change(folder / "model_index.json", **{part: ["evil", "Evil"]})

    with pytest.raises(EngineError):
        load_model(str(folder), dtype=torch.float32)

    assert not mark.exists()


def test_a_pipeline_and_a_scheduler_of_its_own_are_not_even_looked_for(folder: Path, mark: Path):
    change(
        folder / "model_index.json", _class_name=["pipeline", "Evil"], scheduler=["evil", "Evil"]
    )

    load_model(str(folder), dtype=torch.float32)

    assert not mark.exists()
