"""Bit-exactness with real networks: round trips, and independence of company and position."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edict_engine.engine import Engine
from edict_engine.fixed_point import LatentPair
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.lanes import Lanes
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.ticket import Ticket

from .conftest import start_pair, tiny_model, trajectory

SIDES = st.sampled_from([2, 4, 6, 8])


def work(
    model: Model,
    parameters: SamplerParameters,
    pair: LatentPair,
    prompt: str = "a dog",
    direction: str = "invert",
) -> Trajectory[LatentPair]:
    train = model.schedule.train_timesteps
    low, high = parameters.guidance_interval
    guidance = ClassifierFree(
        model.embed(""),
        model.embed(prompt),
        parameters.guidance,
        parameters.guidance_rescale,
        (low * train, high * train),
    )
    return trajectory(parameters, pair, direction=direction, guidance=guidance)


def finish(lanes: Lanes) -> None:
    while not lanes.idle:
        lanes.turn()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.integers(1, 6),
    strength=st.floats(0.2, 1.0),
    guidance=st.sampled_from([0.0, 1.0, 3.0, 7.5]),
    mix=st.sampled_from([0.5, 0.8765, 0.93, 1.0]),
    rescale=st.sampled_from([0.0, 0.7, 1.0]),
    interval=st.sampled_from([(0.0, 1.0), (0.2, 0.8), (0.0, 0.5)]),
    shape=st.tuples(st.just(4), SIDES, SIDES),
    seed=st.integers(0, 99),
)
def test_inverting_and_generating_is_the_identity_on_integers(
    each_model: Model,
    steps: int,
    strength: float,
    guidance: float,
    mix: float,
    rescale: float,
    interval: tuple[float, float],
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    parameters = SamplerParameters(
        "edict", steps, max(strength, 1 / steps), guidance, mix, rescale, interval
    )
    start = start_pair(seed, shape)
    with Engine(each_model, rungs=(2,)) as engine:
        inverted = engine.submit(work(each_model, parameters, start)).result()
        back = engine.submit(work(each_model, parameters, inverted, direction="generate")).result()
    assert back.equal(start)


@pytest.mark.parametrize("steps", [10, 11])
def test_long_round_trips_are_exact_for_odd_and_even_lengths(each_model: Model, steps: int) -> None:
    parameters = SamplerParameters(steps=steps, strength=1.0, guidance=5.0)
    start = start_pair()
    with Engine(each_model, rungs=(2,)) as engine:
        inverted = engine.submit(work(each_model, parameters, start)).result()
        back = engine.submit(work(each_model, parameters, inverted, direction="generate")).result()
    assert not inverted.equal(start)
    assert back.equal(start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("neighbours_before", [0, 1, 3])
def test_an_inverted_latent_is_the_same_bits_alone_or_in_company_at_any_position(
    dtype: torch.dtype, neighbours_before: int
) -> None:
    model = tiny_model(dtype)
    parameters = SamplerParameters(steps=4, strength=1.0, guidance=3.0)

    def subject() -> Trajectory[LatentPair]:
        return work(model, parameters, start_pair(7))

    # Given what it becomes alone, in a batch of eight rows
    alone: Ticket[LatentPair] = Ticket()
    lanes = Lanes(model.denoise, [8])
    lanes.add(subject(), alone, 0, None)
    finish(lanes)

    # When others of all kinds run before and behind it, some ending or joining half way
    others = [
        (SamplerParameters(steps=2, strength=1.0, guidance=7.0), "a castle", "invert"),
        (SamplerParameters(steps=9, strength=0.5, mix=0.8), "a red car", "generate"),
        (SamplerParameters("ddim", steps=3, strength=1.0), "", "generate"),
    ]
    company = [
        work(model, kind, start_pair(seed), prompt, direction)
        for seed, (kind, prompt, direction) in enumerate(others)
    ]
    together: Ticket[LatentPair] = Ticket()
    for other in company[:neighbours_before]:
        lanes.add(other, Ticket(), 0, None)
    lanes.add(subject(), together, 0, None)
    lanes.turn()
    for other in company[neighbours_before:]:
        lanes.add(other, Ticket(), 0, None)
    finish(lanes)

    # Then not a bit of it differs
    assert together.result().equal(alone.result())
