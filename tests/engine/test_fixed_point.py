"""Integers give back what was done to them."""

from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st

from edict_engine.fixed_point import SCALE, LatentPair, mix, quantise, to_float, unmix

#: Where members can be when ``unmix`` begins; see the bounds in the module's docstring.
INTEGERS = st.integers(-(2**47), 2**47)
MIXES = st.integers(5_000, 10_000).map(lambda parts: Fraction(parts, 10_000))


def pair_of(x: int, y: int) -> LatentPair:
    return LatentPair(torch.tensor([[[x]]]), torch.tensor([[[y]]]))


@given(x=INTEGERS, y=INTEGERS, p=MIXES)
def test_mixing_gives_back_what_unmixing_was_given(x: int, y: int, p: Fraction) -> None:
    pair = pair_of(x, y)
    assert mix(unmix(pair, p), p).equal(pair)


@given(x=INTEGERS, y=INTEGERS, p=MIXES)
def test_unmixing_stays_inside_int64(x: int, y: int, p: Fraction) -> None:
    # The same in Python's unbounded integers: any overflow would differ.
    difference = round_half_up((x - y) / p)
    other = x - difference
    unmixed = unmix(pair_of(x, y), p)
    assert (unmixed.x.item(), unmixed.y.item()) == (other + round_half_up(difference / p), other)


@given(x=INTEGERS, y=INTEGERS, p=MIXES)
def test_mixing_is_the_papers_equation_up_to_rounding(x: int, y: int, p: Fraction) -> None:
    mixed = mix(pair_of(x, y), p)
    expected_x = p * x + (1 - p) * y
    expected_y = p * y + (1 - p) * expected_x
    assert abs(int(mixed.x.item()) - expected_x) <= 1
    assert abs(int(mixed.y.item()) - expected_y) <= 2


def test_without_mixing_nothing_moves() -> None:
    pair = pair_of(12345, -678)
    assert mix(pair, Fraction(1)).equal(pair)
    assert unmix(pair, Fraction(1)).equal(pair)


@given(st.lists(st.integers(-(2**52), 2**52), min_size=1))
def test_integers_survive_the_trip_through_float64(integers: list[int]) -> None:
    tensor = torch.tensor(integers)
    assert torch.equal(quantise(to_float(tensor)), tensor)


@given(st.floats(-(2.0**15), 2.0**15))
def test_quantising_errs_by_half_a_unit_at_most(value: float) -> None:
    integer = quantise(torch.tensor(value, dtype=torch.float64)).item()
    assert abs(Fraction(value) * SCALE - int(integer)) <= Fraction(1, 2)


def round_half_up(value: Fraction) -> int:
    return (2 * value + 1) // 2
