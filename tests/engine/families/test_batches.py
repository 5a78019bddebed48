"""The VAE and the text encoders in batches: a row is the same bits whoever is beside it."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.calls import Batched
from edict_engine.conditioning import Conditioning
from edict_engine.editor import Edited, Editor
from edict_engine.engine import Engine
from edict_engine.errors import ParameterError, PromptTooLong
from edict_engine.images import to_image
from edict_engine.latent_file import Inversion
from edict_engine.model import Model, load_model
from edict_engine.parameters import SamplerParameters

from ..conftest import TINY

FAMILIES = ["sd15", "sd21", "sdxl", "sd3"]
DTYPES = [torch.float32, torch.bfloat16]
PROMPTS = ["", "a dog", "a cat", "a red car", "castle", "a dog in a red car"]


@pytest.fixture(
    scope="module",
    params=[(name, dtype) for name in FAMILIES for dtype in DTYPES],
    ids=lambda each: f"{each[0]}-{each[1]}",
)
def any_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Model:
    name, dtype = request.param
    return load_model(folders[name], dtype=dtype, vae_dtype=dtype)


@functools.cache
def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * 2 - 1


def images(model: Model) -> list[Tensor]:
    side = 2 * model.pixel_factor
    return [noise((3, side, side), seed) for seed in range(len(PROMPTS))]


def latents(model: Model) -> list[Tensor]:
    side = 2 * model.pixel_factor
    shape = model.latent_shape(side, side)
    return [4 * noise(shape, seed).double() for seed in range(len(PROMPTS))]


def parts(value: Tensor | Conditioning) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    every = (value.hidden, value.pooled, value.sizes)
    return [part for part in every if part is not None]


def same(one: Tensor | Conditioning, other: Tensor | Conditioning) -> bool:
    return all(
        # NaN stands for a size that is left open.
        torch.equal(mine.nan_to_num(), theirs.nan_to_num())
        for mine, theirs in zip(parts(one), parts(other), strict=True)
    )


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("kind", ["encode", "decode", "embed"])
def test_a_row_is_the_same_bits_beside_any_others_and_in_any_place(
    any_model: Model, kind: str, width: int
) -> None:
    rows: dict[str, Sequence[Any]] = {
        "encode": images(any_model),
        "decode": latents(any_model),
        "embed": PROMPTS,
    }
    function: Callable[[Sequence[Any]], list[Any]] = getattr(any_model, f"_{kind}")
    batched = Batched(function, width)
    alone = [batched([row])[0] for row in rows[kind]]

    @settings(deadline=None, max_examples=8)
    @given(st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=width))
    def in_company(chosen: list[int]) -> None:
        for index, result in zip(
            chosen, batched([rows[kind][each] for each in chosen]), strict=True
        ):
            assert same(result, alone[index])

    in_company()
    assert not same(alone[1], alone[2])


def test_what_is_not_finite_spoils_no_neighbour(any_model: Model) -> None:
    first, second = latents(any_model)[:2]
    decode = Batched(any_model._decode, 2)
    [spoilt, fine] = decode([torch.full_like(first, torch.nan), second])
    assert spoilt.isnan().all()
    assert torch.equal(fine, decode([second])[0])


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, int]]:
    """The busy rows of each batch, by its function; each takes a while, so that others come."""
    seen: list[tuple[object, int]] = []
    make = Batched.make

    def note(self: Batched[Any, Any], rows: Sequence[Any]) -> list[Any]:
        seen.append((self, len(rows)))
        time.sleep(0.25)
        return make(self, rows)

    monkeypatch.setattr(Batched, "make", note)
    return seen


def load(dtype: torch.dtype) -> Model:
    return load_model(TINY, dtype=dtype, vae_dtype=dtype, auxiliary_batch=4)


def edit(editor: Editor, seed: int) -> tuple[Inversion, Edited]:
    image = to_image(noise((3, 64, 64), seed))
    parameters = SamplerParameters(steps=2, strength=1.0)
    inversion = editor.invert(image, PROMPTS[seed], parameters)
    return inversion, editor.edit(inversion, PROMPTS[-1 - seed], negative_prompt="a bird")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_edits_latents_and_image_are_the_same_bits_alone_or_with_any_others(
    dtype: torch.dtype, batches: list[tuple[object, int]]
) -> None:
    # Given an edit that ran alone
    lonely = load(dtype)
    with Engine(lonely, rungs=(8,)) as engine:
        noise_alone, alone = edit(Editor(lonely, engine), 1)
    # When it runs beside four others, with a model that knows no prompt yet
    model, gate = load(dtype), threading.Event()
    with Engine(model, rungs=(8,)) as engine, ThreadPoolExecutor(5) as pool:
        engine.run(lambda: gate.wait(30))
        editor = Editor(model, engine)
        company = [pool.submit(edit, editor, seed) for seed in range(5)]
        gate.set()
        noise_together, together = company[1].result(60)
        for other in company:
            other.result(60)
    # Then they did share batches of every kind, and it made no difference
    for function in (model.encode_rows, model.decode_rows, model.embed_rows):
        assert max(rows for owner, rows in batches if owner is function) > 1
    assert torch.equal(noise_together.image, noise_alone.image)
    assert noise_together.pair.equal(noise_alone.pair)
    assert together.pair.equal(alone.pair)
    assert together.image.tobytes() == alone.image.tobytes()


def test_a_prompt_that_is_too_long_fails_its_own_caller_only() -> None:
    model, gate = load(torch.float32), threading.Event()
    with Engine(model) as engine:
        engine.run(lambda: gate.wait(30))
        good, bad = (engine.run_row(model.embed_rows, text) for text in ("a dog", "q " * 99))
        gate.set()
        assert same(good.result(30), model.embed("a dog"))
        with pytest.raises(PromptTooLong):
            bad.result(30)


def test_a_known_prompt_waits_for_nobody() -> None:
    model, gate = load(torch.float32), threading.Event()
    with Engine(model) as engine:
        known = engine.run_row(model.embed_rows, "a dog").result(30)
        engine.run(lambda: gate.wait(30))
        assert engine.run_row(model.embed_rows, "a dog").result(0) is known
        gate.set()


def test_the_fingerprint_names_the_width_if_it_is_not_one(folders: dict[str, Path]) -> None:
    plain, wide = (load_model(folders["sd15"], auxiliary_batch=width) for width in (1, 4))
    named = plain.fingerprint(2, (4, 8, 8))
    assert "auxiliary_batch" not in named
    assert wide.fingerprint(2, (4, 8, 8)) == named + ";auxiliary_batch=4"


def test_a_width_below_one_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ParameterError, match="has 0 rows: give at least 1"):
        load_model(folders["sd15"], auxiliary_batch=0)
