"""LoRA adapters of the families with several text encoders; see also ``tests.engine.test_lora``."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import ModelNotUsable
from edict_engine.images import to_image
from edict_engine.lora import Adapter
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters
from tests.engine.adapters import write_lora

from .checkpoints import without_t5

SCALE = 0.5
ENCODERS = ("text_encoder", "text_encoder_2")
PARTS = {"sdxl": ("unet", *ENCODERS), "sd3": ("transformer", *ENCODERS)}
PARTS["sd3 without T5"] = PARTS["sd3"]


@pytest.fixture(scope="module", params=PARTS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if family in folders:
        return folders[family]
    copy = tmp_path_factory.mktemp("sd3") / "copy"
    return without_t5(Path(shutil.copytree(folders["sd3"], copy)))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Model:
    return load_model(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def file(family: str, plain: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    return write_lora(path, plain, parts=PARTS[family])


@pytest.fixture(scope="module")
def styled(folder: Path, file: Path) -> Model:
    return load_model(folder, dtype=torch.float32, adapters=[Adapter(str(file), SCALE)])


def test_every_network_that_the_file_names_gets_its_product_and_no_other(
    family: str, plain: Model, styled: Model, file: Path
) -> None:
    tensors = load_file(file)
    for part in (*PARTS[family], "vae"):
        before, after = (
            dict(getattr(each._networks, part).named_parameters()) for each in (plain, styled)
        )
        assert before.keys() == after.keys()
        touched = 0
        for name, weight in before.items():
            key = f"{part}.{name.removesuffix('.weight')}"
            added = torch.zeros_like(weight)
            if f"{key}.lora_A.weight" in tensors:
                added = SCALE * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
                touched += 1
            assert torch.allclose(after[name], weight + added, atol=1e-5), (part, name)
        assert (touched > 0) == (part in PARTS[family])


def test_a_round_trip_is_bit_exact_and_its_model_has_a_name_of_its_own(
    plain: Model, styled: Model
) -> None:
    side = 2 * styled.pixel_factor
    image = to_image(torch.rand(3, side, side) * 2 - 1)
    with Engine(styled, rungs=(2,)) as engine:
        editor = Editor(styled, engine)
        made = editor.invert(image, "a dog", SamplerParameters(steps=3, strength=1.0))
        result = editor.reconstruct(made)
    assert not torch.equal(made.pair.x, made.image)
    assert (result.exact, result.max_error) == (True, 0.0)
    assert styled.revision.partition("+")[0] == plain.revision != styled.revision


def test_an_adapter_with_a_tensor_that_finds_no_place_is_refused(
    family: str, folder: Path, file: Path, tmp_path: Path
) -> None:
    tensors = load_file(file)
    name = next(key for key in tensors if key.startswith(PARTS[family][0]) and ".to_q." in key)
    tensors[name.replace(".to_q.", ".to_other.")] = tensors.pop(name)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, {"format": "pt"})
    with pytest.raises(ModelNotUsable, match="choose one that was trained on this model's base"):
        load_model(folder, dtype=torch.float32, adapters=[Adapter(str(bad))])
