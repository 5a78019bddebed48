"""The place of an edit: where two prompts disagree under noise, made to follow the image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from edict_engine.fixed_point import quantise, to_float
from edict_engine.flow_schedule import FlowSchedule
from edict_engine.found_mask import LEVELS, cells, compare, follow, noisy_steps, pixels
from edict_engine.samplers import Query
from edict_engine.schedule import NoiseSchedule, Schedule

from .conftest import SCHEDULE, start_pair

SIDE = 64


def corner(side: int) -> torch.Tensor:
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[:side, :side] = True
    return inside


def two_things(inside: torch.Tensor) -> torch.Tensor:
    """A latent of an object and a background that look different."""
    noise = torch.randn(4, *inside.shape, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise.to(torch.float64) + inside.to(torch.float64)


def disk(colour: tuple[int, int, int], radius: int) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), (150, 150, 160))
    middle = SIDE // 2
    corners = (middle - radius, middle - radius, middle + radius, middle + radius)
    ImageDraw.Draw(image).ellipse(corners, fill=colour)
    return image


def asked(schedule: Schedule, image: torch.Tensor) -> list[Query]:
    """What ``compare`` asks, of a network whose answers differ in size from turn to turn."""
    search = compare(image, schedule.image_scale, noisy_steps(schedule))
    answers = [torch.full(image.shape, turn - 5.0, dtype=torch.float64) for turn in range(4)]
    queries = [next(search), *(search.send(answer) for answer in answers[:-1])]
    with pytest.raises(StopIteration) as end:
        search.send(answers[-1])
    # Whatever the sizes of the answers, each counts the same.
    assert end.value.value.allclose(torch.ones(8, 8, dtype=torch.float64))
    return queries


@pytest.mark.parametrize("schedule", [SCHEDULE, FlowSchedule(shift=3.0)], ids=["noise", "flow"])
def test_the_prompts_are_compared_under_much_noise_and_its_opposite(schedule: Schedule) -> None:
    image = start_pair().x
    queries = asked(schedule, image)
    # There is more noise than image in each, and less from one to the next.
    times = [query.timestep for query in queries]
    assert times == sorted(times, reverse=True)
    assert all(0.7 * schedule.train_timesteps < time < schedule.train_timesteps for time in times)
    # What two in a row have in common is the image; their noises are opposites.
    for step, one, other in zip(noisy_steps(schedule), queries, queries[1:], strict=False):
        noise = one.latent / step.scale_from - step.signal * schedule.image_scale * to_float(image)
        assert abs(noise.std() / step.noise - 1) < 0.1
        assert (noise * other.latent).mean() < -0.5 * noise.std() * other.latent.std()


@pytest.mark.parametrize("trained", [50, 150, 1000, 4000])
def test_levels_are_shares_of_however_many_timesteps_a_model_was_trained_with(trained: int) -> None:
    schedule = NoiseSchedule.from_config({"num_train_timesteps": trained, "beta_end": 4 / trained})
    shares = [step.timestep / trained for step in noisy_steps(schedule)]
    assert shares == pytest.approx([level / 100 for level in LEVELS], abs=1 / trained)


def test_the_prompts_are_compared_on_the_same_noise_each_time() -> None:
    first, second = (asked(SCHEDULE, start_pair().x) for _ in range(2))
    assert all(a.latent.equal(b.latent) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("side", [2, 4, 7])
def test_the_place_is_where_the_difference_is_large_whatever_its_size(side: int) -> None:
    inside = corner(side)
    difference = torch.where(inside, 1.0, 0.01).to(torch.float64)
    assert torch.equal(cells(difference, two_things(inside)), inside)


def test_cells_that_look_like_the_object_belong_to_it_in_spite_of_noise() -> None:
    # Given a difference that is half noise, where two of the object's cells show none at all
    inside = corner(4)
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    difference = inside + 0.5 * noise
    difference[1, 1] = difference[2, 3] = 0.0
    assert torch.equal(cells(difference, two_things(inside)), inside)


@given(radius=st.integers(10, 26), red=st.integers(200, 255), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_from_coarse_and_noisy_cells_the_place_is_found_to_the_pixel(
    radius: int, red: int, seed: int
) -> None:
    # Given a red disk, and a difference that knows of it only in cells of eight pixels, with noise
    image = disk((red, 40, 30), radius)
    inside = np.asarray(disk((255, 255, 255), radius).convert("L")) == 255
    coarse = torch.from_numpy(inside.reshape(8, 8, 8, 8).mean((1, 3)))
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # When its place is asked for in pixels
    share = np.asarray(pixels(coarse + 0.3 * noise, image))
    # Then it is the disk, and in doubt are three pixels around the two by which it was grown
    rim = np.asarray(disk((255, 255, 255), radius + 2 + 3).convert("L")) == 255
    core = np.asarray(disk((255, 255, 255), radius + 2 - 3).convert("L")) == 255
    assert (share[core] == 255).all()
    assert (share[~rim] == 0).all()


def test_an_image_that_is_not_square_keeps_its_shape() -> None:
    image = disk((220, 40, 30), 20).crop((0, 8, SIDE, 56))
    difference = torch.zeros(6, 8, dtype=torch.float64)
    difference[1:5, 2:6] = 1.0
    share = pixels(difference, image)
    assert share.size == image.size
    assert np.asarray(share)[24, 32] == 255
    assert np.asarray(share)[2, 2] == 0


def test_an_image_without_features_only_smooths_the_difference() -> None:
    values = torch.rand(8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    smooth = follow(values, torch.zeros(4, 8, 8, dtype=torch.float64))
    assert smooth.std() < values.std() / 4
    same = torch.full_like(values, 0.5)
    assert follow(same, to_float(start_pair().x)).allclose(same)


@pytest.mark.parametrize("shade", [40.0, 255.0])
def test_a_colour_that_is_the_same_all_over_the_image_says_nothing(shade: float) -> None:
    # Given an image in which two colours differ from place to place and the third one does not
    generator = torch.Generator().manual_seed(3)
    colours = 255 * torch.rand(3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    values = torch.rand(16, 16, generator=generator, dtype=torch.float64)
    colours[2] = 0.0
    without = follow(values, colours)
    # Then it does not matter which one that is
    colours[2] = shade
    assert follow(values, colours).allclose(without)


def test_prompts_that_never_disagree_leave_everything_open() -> None:
    never = torch.zeros(8, 8, dtype=torch.float64)
    assert cells(never, to_float(start_pair().x)).all()
    assert set(np.asarray(pixels(never, disk((200, 0, 0), 20))).ravel()) == {255}


def test_where_the_prompts_disagree_alike_in_an_image_of_one_colour_everything_is_open() -> None:
    alike = torch.ones(8, 8, dtype=torch.float64)
    flat = to_float(quantise(torch.ones(4, 8, 8, dtype=torch.float64)))
    assert cells(alike, flat).all()
    assert set(np.asarray(pixels(alike, Image.new("RGB", (SIDE, SIDE)))).ravel()) == {255}
