"""Sampler parameters are checked before any work."""

from fractions import Fraction
from typing import Any

import pytest

from edict_engine.errors import ParameterError
from edict_engine.parameters import SamplerParameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 1001),
        ("steps", 2.5),
        ("steps", True),
        ("strength", 0),
        ("strength", 1.01),
        ("strength", float("nan")),
        ("strength", "0.8"),
        ("guidance", -1),
        ("guidance", 101),
        ("guidance", float("inf")),
        ("mix", 0.49),
        ("mix", 1.1),
        ("mix", float("nan")),
        ("mix", 0.93001),
        ("guidance_rescale", -0.1),
        ("guidance_rescale", 1.1),
        ("guidance_interval", (0.5, 0.5)),
        ("guidance_interval", (-0.1, 1)),
        ("guidance_interval", (0, 1.1)),
        ("guidance_interval", (0, float("nan"))),
        ("guidance_interval", (0, 0.5, 1)),
        ("gamma", 0),
        ("gamma", 1.0001),
        ("gamma", float("nan")),
        ("gamma", 0.96001),
        ("gamma", 0.00001),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.0),
        ("seed", True),
        ("alternate", 1),
        ("alternate", "yes"),
    ],
)
def test_a_value_outside_its_domain_is_refused_by_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        SamplerParameters(**{name: value})
    assert f"{name} is {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1, "strength": 1, "guidance": 0, "mix": 0.5, "gamma": 1e-4, "seed": 0},
        {"steps": 1000, "strength": 1e-3, "guidance": 100, "mix": 1, "gamma": 1, "seed": 2**63 - 1},
    ],
)
def test_the_ends_of_every_domain_belong_to_it(values: dict[str, Any]) -> None:
    parameters = SamplerParameters(**values)
    assert {name: getattr(parameters, name) for name in values} == values


def test_mix_is_the_fraction_that_its_decimals_say() -> None:
    assert SamplerParameters(mix=0.93).mix_ratio == Fraction(93, 100)
    assert SamplerParameters(mix=0.9999).mix_ratio == Fraction(9999, 10000)


def test_gamma_is_the_fraction_that_its_decimals_say() -> None:
    assert SamplerParameters(gamma=0.96).gamma_ratio == Fraction(24, 25)
    assert SamplerParameters(gamma=0.0001).gamma_ratio == Fraction(1, 10000)


def test_a_refusal_proposes_only_what_is_in_the_domain() -> None:
    with pytest.raises(ParameterError, match=r"gamma is 1e-05: .* say 0\.0001"):
        SamplerParameters(gamma=1e-5)
