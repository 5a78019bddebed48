"""The measurement for GPUs runs here on a CPU, small. How quick anything is, no test says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from bench.gpu.__main__ import parse
from bench.gpu.measurement import Measurement
from bench.gpu.networks import PROMPT, SD15, TINY, as_model, build, make_unet
from bench.gpu.rates import Rate, Yardstick, count_operations
from tests.engine.families.checkpoints import SD15_UNET, SD_VAE

ROOT = Path(__file__).parents[1]
SMALL = ("--steps", "4", "--images", "3", "--rows", "2", "4", "--recipe-steps", "2")
KEYS = {
    *("device", "dtype", "torch", "cuda", "matrix_teraflops", "gigaflop_per_row"),
    *("share_of_matrix_rate", "images_per_second", "times_recipe", "round_trip_max_error"),
    *("same_beside_others", "unet_share", "peak_megabytes", "products", "unet", "not_compiled"),
    *("edits", "recipe", "left_out"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--device", "cpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    # torch's own backend "eager" takes the network apart as the one for GPUs does.
    done = run("--model", "tiny", *SMALL, "--compiler", "eager", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_object_has_every_figure_and_its_round_trips_are_exact(figures: dict[str, Any]) -> None:
    assert figures.keys() == KEYS
    for name in ("matrix_teraflops", "share_of_matrix_rate", "images_per_second", "times_recipe"):
        assert figures[name] > 0
    assert 0 < figures["unet_share"] <= 1
    assert figures["round_trip_max_error"] == 0
    assert figures["same_beside_others"] is True
    assert figures["edits"]["round_trips"] == 1
    assert 0 < figures["recipe"]["round_trip_max_error"] < 1e-9


@pytest.mark.slow
def test_the_unet_is_measured_as_it_is_and_compiled_at_every_row_count(
    figures: dict[str, Any],
) -> None:
    measured = {(rate["rows"], rate["compiled"]) for rate in figures["unet"]}
    assert measured == {(2, False), (4, False), (2, True), (4, True)}
    assert figures["not_compiled"] == {}
    assert figures["edits"]["rows"] == 4


@pytest.mark.slow
def test_what_has_no_meaning_without_a_gpu_is_named(figures: dict[str, Any]) -> None:
    assert figures["peak_megabytes"] is None
    assert any("CUDA graphs" in one for one in figures["left_out"])


@pytest.mark.slow
def test_what_there_is_no_time_for_is_left_out_and_the_rest_printed() -> None:
    done = run("--model", "tiny", *SMALL, "--compiler", "eager", "--minutes", "0.001")
    assert done.returncode == 0, done.stderr
    assert "2 rows compiled: no time was left" in done.stdout
    assert "1 images of 3: no time was left" in done.stdout


def test_the_largest_compiled_row_count_that_fits_is_the_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a compiled network that holds four rows
    def rate(_: Yardstick, __: Any, rows: int, *, compiled: bool) -> Rate:
        if rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Rate(rows, compiled, 1.0, 1000.0, 1.0, 0.5, None)

    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--device", "cpu", "--model", "tiny"])
    monkeypatch.setattr(Yardstick, "rate", rate)
    measurement = Measurement(parse())
    model = as_model(build(TINY, 32, torch.device("cpu"), torch.float32), "eager")
    # When it is timed at every one
    largest = measurement._compiled_rates(model, (2, 4, 8))
    # Then the largest is left out with the reason, and the next taken
    assert largest == 4
    assert [one.rows for one in measurement.figures.rates] == [4, 2]
    assert "8 rows compiled: memory ran out" in measurement.figures.left_out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "sd15", "--size", "100"), "--size is 100 and sd15 takes multiples of 64"),
        (("--rows", "1", "4"), "--rows has 1: give at least 2"),
        (("--images", "0"), "--images is 0: give at least 1"),
        (("--recipe-steps", "0"), "--recipe-steps is 0: give at least 1"),
    ],
)
def test_sizes_and_counts_that_cannot_be_are_refused(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--device", "cpu", *arguments])
    with pytest.raises(SystemExit):
        parse()
    assert message in capsys.readouterr().err


def test_the_blueprint_is_that_of_the_published_checkpoint() -> None:
    for ours, published in ((SD15.unet, SD15_UNET), (SD15.vae, SD_VAE)):
        for name, value in ours.items():
            known = published[name]
            assert value == (tuple(known) if isinstance(value, tuple) else known)


def test_operations_are_those_of_the_layers_and_of_attention() -> None:
    # Given a UNet whose layers say what they multiply, two operations each time
    counted = 0

    def convolution(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal counted
        counted += 2 * output.numel() * layer.weight[0].numel()

    def attention(layer: Any, inputs: Any, options: Any, _: Any) -> None:
        nonlocal counted
        told = options.get("encoder_hidden_states")
        queries, keys = inputs[0].shape[1], (inputs[0] if told is None else told).shape[1]
        counted += 2 * 2 * queries * keys * layer.inner_dim  # the map, and what it mixes

    unet = make_unet(TINY, 32)
    for layer in unet.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, Attention):
            layer.register_forward_hook(attention, with_kwargs=True)
    # When it takes one row
    with torch.inference_mode():
        unet(torch.zeros(1, 4, 16, 16), torch.zeros(1), torch.zeros(1, PROMPT, 16))
    # Then that is what is counted
    assert count_operations(TINY, 32) == counted


def test_weights_are_the_same_in_every_precision_and_in_every_run() -> None:
    single, double = (
        build(TINY, 32, torch.device("cpu"), dtype).networks.denoiser
        for dtype in (torch.float32, torch.float64)
    )
    for one, other in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(one.double(), other)
