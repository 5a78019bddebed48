"""Inversions survive their file; anything else is refused."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edict_engine.errors import LatentFileError
from edict_engine.fixed_point import LatentPair
from edict_engine.latent_file import Inversion, load_inversion, save_inversion
from edict_engine.parameters import SamplerParameters

from .conftest import SCHEDULE


def an_inversion(seed: int = 0) -> Inversion:
    generator = torch.Generator().manual_seed(seed)
    image, x, y = torch.randint(-(2**62), 2**62, (3, 4, 6, 2), generator=generator)
    parameters = SamplerParameters(steps=10, strength=0.6, guidance=4.5, mix=0.91)
    return Inversion(
        image=image,
        pair=LatentPair(x, y),
        parameters=parameters,
        prompt='a "dog" — 犬',
        model_name="demo",
        model_revision="abc",
        schedule=SCHEDULE.describe(SCHEDULE.grid(10, 0.6)),
        rung=8,
        fingerprint="cpu",
    )


def tampered(**changes: object) -> bytes:
    """A well-formed file with other metadata."""
    data = save_inversion(an_inversion())
    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["edict"])
    return safetensors.torch.save(tensors, {"edict": json.dumps(content | changes)})


@settings(deadline=None)
@given(seed=st.integers(0, 1000), prompt=st.text())
def test_an_inversion_comes_back_as_it_was(seed: int, prompt: str) -> None:
    before = replace(an_inversion(seed), prompt=prompt)
    after = load_inversion(save_inversion(before))
    assert torch.equal(after.image, before.image)
    assert after.pair.equal(before.pair)
    for name in ("parameters", "prompt", "model_name", "model_revision", "schedule", "rung"):
        assert getattr(after, name) == getattr(before, name)
    assert after.fingerprint == before.fingerprint


def test_the_same_inversion_is_the_same_bytes() -> None:
    assert save_inversion(an_inversion()) == save_inversion(an_inversion())


def test_a_file_from_before_a_parameter_existed_is_read_with_its_default() -> None:
    old = {"sampler": "edict", "steps": 10, "strength": 0.6, "guidance": 4.5, "mix": 0.91}
    assert load_inversion(tampered(parameters=old)).parameters == an_inversion().parameters


def test_members_that_are_one_tensor_are_saved_like_any_other() -> None:
    shared = replace(an_inversion(), pair=LatentPair(an_inversion().image, an_inversion().image))
    one = replace(shared, pair=LatentPair(shared.image, shared.image))
    assert save_inversion(one) == save_inversion(shared)
    assert load_inversion(save_inversion(one)).pair.equal(one.pair)


def test_other_tools_can_read_the_tensors() -> None:
    tensors = safetensors.torch.load(save_inversion(an_inversion()))
    assert sorted(tensors) == ["image", "x", "y"]
    assert torch.equal(tensors["x"], an_inversion().pair.x)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not safetensors at all",
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        save_inversion(an_inversion())[:-1],
        save_inversion(an_inversion())[:100],
        safetensors.torch.save({"x": torch.zeros(3)}),
        safetensors.torch.save({"x": torch.zeros(3)}, {"edict": "[]"}),
    ],
    ids=["empty", "text", "huge header", "no metadata", "cut", "header cut", "foreign", "list"],
)
def test_what_is_no_inversion_is_refused(data: bytes) -> None:
    with pytest.raises(LatentFileError, match="invert the image again"):
        load_inversion(data)


@settings(deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed_in_the_latents(where: float, bit: int) -> None:
    data = bytearray(save_inversion(an_inversion()))
    payload = 3 * 4 * 6 * 2 * 8
    data[len(data) - payload + int(where * payload)] ^= 1 << bit
    with pytest.raises(LatentFileError, match="SHA-256"):
        load_inversion(bytes(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 and this version reads 1"),
        ({"scale": 2**20}, "format"),
        ({"parameters": {"steps": 0}}, "steps is 0"),
        ({"parameters": {"colour": 1}}, "colour"),
        ({"rung": "many"}, "many"),
        ({"schedule": None}, "NoneType"),
    ],
)
def test_impossible_metadata_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LatentFileError, match=message):
        load_inversion(tampered(**change))


def test_tensors_of_another_kind_are_refused() -> None:
    inversion = an_inversion()
    for broken in (
        replace(inversion, image=inversion.image.to(torch.float64)),
        replace(inversion, image=inversion.image[:1]),
        replace(inversion, image=inversion.image[0], pair=LatentPair(*inversion.pair.x[:2])),
    ):
        with pytest.raises(LatentFileError, match="not three int64"):
            load_inversion(save_inversion(broken))
