"""Specs: what is taken, what is refused, and what makes two of them the same."""

import json
import string
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.errors import InvalidInput, NewerInput
from jobs.messages import MAX_SHARD_JOBS, Shard
from jobs.specs import (
    EditSpec,
    ImageOptions,
    InversionSpec,
    ModelRef,
    OutputOptions,
    ReconstructionSpec,
    SamplerOptions,
    Source,
    Spec,
    parse_spec,
)
from tests.jobs.factories import edit, inversion, reconstruction

_characters = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r")
_prompts = st.text(_characters, max_size=60)
_guidance = st.floats(0, 100)
_names = st.text(_characters, min_size=1, max_size=40)
_sources = st.builds(
    Source,
    uri=st.text(string.ascii_letters + "äß/?#@ ", min_size=1).map("s3://bucket/{}".format),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)
_common: dict[str, Any] = {
    "source": _sources,
    "model": st.builds(ModelRef, name=_names, revision=st.none() | _names),
    "base_prompt": _prompts,
    "image": st.builds(
        ImageOptions,
        size=st.none() | st.integers(8, 4_096),
        fit=st.sampled_from(["crop", "fit"]),
    ),
    "sampler": st.integers(1, 1_000).flatmap(
        lambda steps: st.builds(
            SamplerOptions,
            steps=st.just(steps),
            strength=st.floats(1 / steps, 1),
            guidance_scale=_guidance,
            mix=st.integers(5_000, 10_000).map(lambda parts: parts / 10_000),
        )
    ),
}
specs: st.SearchStrategy[Spec] = st.one_of(
    st.builds(InversionSpec, **_common),
    st.builds(ReconstructionSpec, **_common),
    st.builds(
        EditSpec,
        **_common,
        edit_prompt=_prompts.filter(str.strip),
        negative_prompt=_prompts,
        edit_guidance_scale=st.none() | _guidance,
    ),
)


@given(specs)
def test_a_spec_survives_json(spec: Spec) -> None:
    travelled = parse_spec(json.loads(json.dumps(spec.model_dump(mode="json"))))

    assert travelled == spec
    assert travelled.digest() == spec.digest()
    assert travelled.inversion_digest() == spec.inversion_digest()


@given(specs, _sources)
def test_a_digest_does_not_depend_on_where_the_image_lies(spec: Spec, other: Source) -> None:
    moved = spec.model_copy(update={"source": Source(uri=other.uri, sha256=spec.source.sha256)})

    assert moved.digest() == spec.digest()
    assert moved.inversion_digest() == spec.inversion_digest()


CHANGES: dict[str, object] = {
    "source.sha256": "f" * 64,
    "model.name": "other",
    "model.revision": "r2",
    "base_prompt": "a cat",
    "image.size": 64,
    "image.fit": "fit",
    "sampler.steps": 51,
    "sampler.strength": 0.7,
    "sampler.guidance_scale": 3.5,
    "sampler.name": "bdia",
    "sampler.mix": 0.9,
    "sampler.gamma": 0.9,
    "sampler.seed": 1,
    "sampler.guidance_rescale": 0.5,
    "sampler.guidance_interval": [0.2, 0.8],
    "sampler.alternate": False,
    "sampler.original_size": [768, 1024],
    "sampler.crop_top_left": [0, 128],
    "sampler.target_size": [1024, 1024],
    "attention_control": True,
    "mask": "auto",
    "keep_pixels": True,
    "edit_prompt": "a horse",
    "negative_prompt": "blurry",
    "edit_guidance_scale": 4.0,
    "output.format": "webp",
    "output.quality": 80,
    "rows": 8,
}


BESIDE: dict[str, dict[str, Any]] = {
    # Quality is for formats that lose something, and pixels are kept around a mask.
    "output.quality": {"output": OutputOptions(format="jpeg")},
    "keep_pixels": {"mask": "auto"},
}


def changed(spec: Spec, path: str, value: object) -> dict[str, Any]:
    data: dict[str, Any] = spec.model_dump(mode="json")
    *outer, name = path.split(".")
    inner = data
    for part in outer:
        inner = inner[part]
    inner[name] = value
    return data


@pytest.mark.parametrize("path", CHANGES)
def test_a_digest_depends_on_every_other_field(path: str) -> None:
    first = edit(**BESIDE.get(path, {}))
    other = parse_spec(changed(first, path, CHANGES[path]))

    assert other.digest() != first.digest()


def test_every_field_is_covered_by_the_test_above() -> None:
    leaves = {
        f"{name}.{inner}" if isinstance(value, dict) else name
        for name, value in edit().model_dump(mode="json").items()
        for inner in (value if isinstance(value, dict) else [""])
    }

    assert leaves - CHANGES.keys() == {"version", "kind", "source.uri"}


def test_kinds_have_different_digests() -> None:
    assert len({edit().digest(), inversion().digest(), reconstruction().digest()}) == 3


def test_equal_specs_have_equal_digests_even_with_a_negative_zero() -> None:
    zero, negative = (
        edit(sampler=SamplerOptions(guidance_scale=value), edit_guidance_scale=value)
        for value in (0.0, -0.0)
    )

    assert zero == negative
    assert zero.digest() == negative.digest()


def test_all_that_is_done_with_one_image_shares_its_inversion() -> None:
    alike = [
        inversion(),
        reconstruction(),
        edit(prompt="a dog"),
        edit(prompt="a horse", negative_prompt="blurry", edit_guidance_scale=9.0),
    ]

    assert len({spec.inversion_digest() for spec in alike}) == 1
    assert edit(base_prompt="a cat").inversion_digest() != edit().inversion_digest()
    assert edit(image=1).inversion_digest() != edit().inversion_digest()


NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[str, object, str]] = [
    ("sampler.steps", 0, "greater than or equal to 1 (got 0)"),
    ("sampler.steps", 1_001, "less than or equal to 1000 (got 1001)"),
    ("sampler.steps", "many", "integer"),
    ("sampler.strength", 0, "greater than 0 (got 0)"),
    ("sampler.strength", 1.1, "less than or equal to 1 (got 1.1)"),
    ("sampler.strength", -0.5, "greater than 0 (got -0.5)"),
    ("sampler.strength", NAN, "finite number (got nan)"),
    ("sampler.strength", None, "number (got None)"),
    ("sampler.guidance_scale", INF, "finite number (got inf)"),
    ("sampler.guidance_scale", 100.5, "less than or equal to 100 (got 100.5)"),
    ("sampler.mix", 0.4, "greater than or equal to 0.5 (got 0.4)"),
    ("sampler.mix", NAN, "finite number (got nan)"),
    ("sampler.name", "euler", "'ddim' or 'sdedit' (got 'euler')"),
    ("sampler.gamma", 0, "greater than 0 (got 0)"),
    ("sampler.gamma", 0.96001, "more than four decimals; use 0.96"),
    ("sampler.seed", -1, "greater than or equal to 0 (got -1)"),
    ("sampler.guidance_rescale", 1.5, "less than or equal to 1 (got 1.5)"),
    ("sampler.guidance_interval", [0.8, 0.2], "is empty; give the smaller end first"),
    ("sampler.original_size", [0, 512], "greater than or equal to 1 (got 0)"),
    ("sampler.crop_top_left", [-1, 0], "greater than or equal to 0 (got -1)"),
    ("sampler.target_size", [512, 65_537], "less than or equal to 65536 (got 65537)"),
    ("mask", "all", "'auto'"),
    (
        "keep_pixels",
        True,
        "there is no mask; give one, or auto, or leave keep_pixels out (got True)",
    ),
    ("keep_pixels", "often", "boolean"),
    ("sampler.eta", 0.1, "not permitted (got 0.1)"),
    ("sampler", {"steps": 50, "strength": 0.01}, "no step to run; use a strength of at least 0.02"),
    ("edit_guidance_scale", -1, "greater than or equal to 0 (got -1)"),
    ("image.size", 7, "greater than or equal to 8 (got 7)"),
    ("image.size", 5_000, "less than or equal to 4096 (got 5000)"),
    ("edit_prompt", "", "is empty; say what the edited image should show (got '')"),
    ("edit_prompt", " \n", "is empty"),
    ("edit_prompt", "x" * 2_001, "at most 2000 characters (got 'xxx"),
    ("base_prompt", "a\0b", r"control character '\x00' at position 1; remove it"),
    ("base_prompt", "\x1b[31m", r"control character '\x1b' at position 0"),
    ("negative_prompt", "a \ud800", ""),
    ("base_prompt", 5, "string (got 5)"),
    ("source.sha256", "AB" * 32, "pattern '^[0-9a-f]{64}$' (got 'ABAB"),
    ("source.sha256", "ab" * 32 + "\n", "pattern"),
    ("source.sha256", "ab", "(got 'ab')"),
    ("source.uri", "https://host/a.png", "pattern '^s3://[^/]+/.+' (got 'https://host/a.png')"),
    ("source.uri", "s3://bucket", "(got 's3://bucket')"),
    ("source.uri", "s3://bucket/a\0.png", r"control character '\x00'"),
    ("source.uri", "s3://bucket/" + "x" * 2_048, "at most 2048 characters"),
    ("source.uri", "s3://bucket/\ud800", ""),
    ("model.name", "", "at least 1 character (got '')"),
    ("model.name", "a\0", r"control character '\x00'"),
    ("model.revision", "\0", r"control character '\x00'"),
    ("colour", "red", "not permitted (got 'red')"),
    ("version", 2, "1 (got 2)"),
]


@pytest.mark.parametrize(("path", "value", "problem"), REFUSED, ids=lambda each: f"{each!r:.25}")
def test_a_refusal_names_the_field_the_value_and_the_limit(
    path: str, value: object, problem: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_spec(changed(edit(), path, value))

    assert refusal.value.field.removeprefix("edit.").startswith(path)
    assert problem in refusal.value.problem
    assert len(str(refusal.value)) < 300
    str(refusal.value).encode()  # can be printed and stored


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, {"kind": "novel"}, {"kind": "edit"}])
def test_what_is_no_spec_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_spec(value)


def test_limits_themselves_are_allowed() -> None:
    edges = SamplerOptions(steps=1_000, strength=0.001, guidance_scale=100, mix=0.5)

    spec = edit(prompt="x" * 2_000, base_prompt="\t\n", sampler=edges)

    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert SamplerOptions(steps=3, strength=1 / 3).steps == 3


def test_specs_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        inversion().base_prompt = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "forged",
    [
        {"job_ids": []},
        {"job_ids": [str(uuid4()) for _ in range(MAX_SHARD_JOBS + 1)]},
        {"job_ids": ["../etc/passwd"]},
        {"job_ids": [str(uuid4())], "version": 2},
        {"job_ids": [str(uuid4())], "command": "rm"},
        {},
        "text",
    ],
)
def test_a_forged_message_is_refused(forged: object) -> None:
    with pytest.raises(InvalidInput):
        Shard.parse(forged)


def test_a_message_of_another_version_is_refused_by_its_version() -> None:
    newer = {"version": 2, "shards": []}

    with pytest.raises(NewerInput, match=r"version: Input should be 1 \(got 2\)"):
        Shard.parse(newer)


def test_a_message_from_before_versions_is_understood() -> None:
    job_id = uuid4()

    assert Shard.parse({"job_ids": [str(job_id)]}) == Shard(job_ids=(job_id,))


def test_a_message_survives_json() -> None:
    shard = Shard(job_ids=tuple(uuid4() for _ in range(MAX_SHARD_JOBS)))

    assert Shard.model_validate_json(shard.model_dump_json()) == shard
    assert Shard.model_validate(json.loads(json.dumps(shard.model_dump(mode="json")))) == shard


def test_the_digest_of_a_spec_never_changes() -> None:
    # Pinned: a digest that changes makes every job of every deployment a new one.
    spec = edit(prompt="a dog", base_prompt="Käse 犬")

    assert spec.digest() == "b33511495158fbee99d2d338816bc968fc35c99265d23975dcfa171508983987"


def test_a_spec_that_keeps_no_pixels_is_written_as_before_there_was_such_a_field() -> None:
    assert "keep_pixels" not in edit(mask="auto").model_dump(mode="json")
    assert edit(mask="auto", keep_pixels=True).model_dump(mode="json")["keep_pixels"]


def test_a_mix_that_the_integer_arithmetic_cannot_hold_is_refused():
    with pytest.raises(ValidationError, match=r"more than four decimals; use 0\.9333"):
        SamplerOptions(mix=0.93333)
