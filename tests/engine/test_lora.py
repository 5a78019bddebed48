"""LoRA adapters: fused once, part of the model's revision, refused where they do not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edict_engine.conditioning import Conditioning
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.errors import (
    ModelMismatch,
    ModelNotFound,
    ModelNotUsable,
    ModelUnreachable,
    ParameterError,
)
from edict_engine.images import to_image
from edict_engine.lora import STANDARD_FILE, Adapter
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from .adapters import write_lora
from .conftest import TINY


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(TINY, dtype=torch.float32)
    return write_lora(tmp_path_factory.mktemp("lora") / "style.safetensors", model)


@pytest.fixture(scope="module")
def styled(file: Path) -> Model:
    return load_tiny(Adapter(str(file), 0.8))


def load_tiny(*adapters: Adapter) -> Model:
    return load_model(TINY, dtype=torch.float32, adapters=adapters, local_files_only=True)


def noise_of(model: Model, contexts: Conditioning | None = None) -> torch.Tensor:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = contexts or Conditioning.stack([model.embed("a dog"), model.embed("")])
    return model.denoise(latents, torch.tensor([500, 20]), prompts)


def test_an_adapter_adds_its_product_to_the_weights_at_its_scale(
    model: Model, styled: Model, file: Path
) -> None:
    tensors = load_file(file)
    for part in ("unet", "text_encoder"):
        plain, fused = (
            dict(getattr(each._networks, part).named_parameters()) for each in (model, styled)
        )
        assert plain.keys() == fused.keys()
        for name, weight in plain.items():
            key = f"{part}.{name.removesuffix('.weight')}"
            added = torch.zeros_like(weight)
            if f"{key}.lora_A.weight" in tensors:
                added = 0.8 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            assert torch.allclose(fused[name], weight + added, atol=1e-6), name


def test_an_adapter_changes_what_the_network_says_and_how_prompts_read(
    model: Model, styled: Model
) -> None:
    prompts = Conditioning.stack([model.embed("a dog"), model.embed("")])
    assert not torch.allclose(noise_of(model), noise_of(styled, prompts), atol=1e-3)
    assert not torch.allclose(model.embed("a dog").hidden, styled.embed("a dog").hidden, atol=1e-3)


def test_a_round_trip_is_bit_exact_and_belongs_to_the_styled_model(
    model: Model, styled: Model
) -> None:
    image = to_image(torch.rand(3, 32, 32) * 2 - 1)
    with Engine(styled) as engine, Engine(model) as other:
        made = Editor(styled, engine).invert(image, "a dog", SamplerParameters(steps=4))
        result = Editor(styled, engine).reconstruct(made)
        with pytest.raises(ModelMismatch, match="load that model"):
            Editor(model, other).reconstruct(made)
    assert not torch.equal(made.pair.x, made.image)
    assert (result.exact, result.max_error) == (True, 0.0)


def test_the_revision_follows_contents_scale_and_order(
    model: Model, styled: Model, file: Path, tmp_path: Path
) -> None:
    same = write_lora(tmp_path / "elsewhere" / STANDARD_FILE, model)
    other = write_lora(tmp_path / "other.safetensors", model, seed=1)
    both = [Adapter(str(file)), Adapter(str(other))]
    base, _, digest = styled.revision.partition("+")
    assert (base, len(digest)) == (model.revision, 32)
    # A folder that holds the standard file names that file; its place says nothing.
    assert load_tiny(Adapter(str(same.parent), 0.8)).revision == styled.revision
    others = [[Adapter(str(file))], [Adapter(str(other), 0.8)], both, both[::-1]]
    assert len({styled.revision, *(load_tiny(*each).revision for each in others)}) == 5


def test_kohyas_layout_gives_the_same_network(styled: Model, file: Path, tmp_path: Path) -> None:
    # Its scale is alpha over rank; here 8 / 4.
    tensors: dict[str, torch.Tensor] = {}
    for key, value in load_file(file).items():
        part, _, rest = key.partition(".")
        name, _, side = rest.removesuffix(".weight").rpartition(".lora_")
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}[part]
        place = prefix + name.replace(".", "_")
        tensors[f"{place}.lora_{'down' if side == 'A' else 'up'}.weight"] = value
        tensors[f"{place}.alpha"] = torch.tensor(8.0)
    save_file(tensors, tmp_path / "kohya.safetensors", {"format": "pt"})
    kohya = load_tiny(Adapter(str(tmp_path / "kohya.safetensors"), 0.4))
    assert torch.allclose(noise_of(kohya), noise_of(styled), atol=1e-5)


def test_a_scale_out_of_its_domain_is_refused(file: Path) -> None:
    for scale in (0.0, 11.0, float("nan")):
        with pytest.raises(ParameterError, match="-10 to 10 other than 0"):
            load_tiny(Adapter(str(file), scale))


def test_what_is_no_file_is_refused_with_the_remedy(file: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "style.bin"
    pickled.write_bytes(b"")
    empty = tmp_path / "empty"
    empty.mkdir()
    for adapter, error, message in [
        (Adapter(str(tmp_path / "absent.safetensors")), ModelNotFound, "check the path"),
        (Adapter("style"), ModelNotFound, "check the path"),
        (Adapter(str(pickled)), ModelNotUsable, "convert it with safetensors"),
        (Adapter(str(empty)), ModelNotUsable, "holds 0 .safetensors files"),
        (Adapter("nobody/style"), ModelNotUsable, "pin its commit, nobody/style@COMMIT"),
        (Adapter("nobody/style", revision="0" * 40), ModelUnreachable, "check the name"),
    ]:
        with pytest.raises(error, match=message):
            load_tiny(adapter)


@pytest.mark.parametrize("fault", ["renamed", "lost", "reshaped", "foreign", "truncated"])
def test_an_adapter_that_does_not_fit_is_refused_whole(
    file: Path, tmp_path: Path, fault: str
) -> None:
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    value = tensors.pop(name)
    if fault == "renamed":
        tensors[name.replace("up_blocks.1", "up_blocks.7")] = value
    elif fault == "reshaped":
        tensors[name] = torch.zeros(value.shape[0] + 1, value.shape[1] + 1)
    elif fault == "foreign":
        tensors["unet.conv_in.weight"] = value
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, {"format": "pt"})
    if fault == "truncated":
        bad.write_bytes(bad.read_bytes()[:-100])
    with pytest.raises(ModelNotUsable, match="choose one that was trained on this model's base"):
        load_tiny(Adapter(str(bad)))
