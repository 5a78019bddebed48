"""Specs written in bulk are the specs that they are one by one."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.specs import (
    EditSpec,
    ImageOptions,
    InversionSpec,
    ModelRef,
    ReconstructionSpec,
    SamplerOptions,
    Spec,
    parse_spec,
)
from jobs.writing import SpecWriter
from tests.jobs.factories import source

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "source": st.integers(0, 2).map(source),
    "model": st.builds(ModelRef, name=st.just("demo"), revision=st.sampled_from([None, "r1"])),
    "base_prompt": st.sampled_from(["", "ein Hund, 犬 🐕", '"quoted" \\ text']),
    "image": st.builds(ImageOptions, size=st.sampled_from([None, 64])),
    "sampler": st.builds(
        SamplerOptions,
        name=st.sampled_from(["edict", "bdia"]),
        steps=st.sampled_from([10, 50]),
        gamma=st.sampled_from([0.96, 0.5]),
        guidance_interval=st.sampled_from([(0.0, 1.0), (0.25, 0.5)]),
    ),
}
EDIT: dict[str, st.SearchStrategy[Any]] = {
    "edit_prompt": TEXT,
    "negative_prompt": st.sampled_from(["", "blurred"]),
    "edit_guidance_scale": st.sampled_from([None, 7.5]),
    "attention_control": st.booleans(),
    **SHARED,
}
EDITS = st.builds(EditSpec, mask=st.sampled_from([None, "auto", source(9)]), **EDIT)
MASKED = st.builds(
    EditSpec, mask=st.sampled_from(["auto", source(9)]), keep_pixels=st.booleans(), **EDIT
)
SPECS = st.one_of(
    EDITS, MASKED, st.builds(InversionSpec, **SHARED), st.builds(ReconstructionSpec, **SHARED)
)


@given(st.lists(SPECS, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_text_and_digests_are_those_of_each_spec_by_itself(specs: list[Spec]) -> None:
    writer = SpecWriter()
    for spec in specs:
        written = writer.write(spec)
        assert parse_spec(json.loads(written.json)) == spec
        assert json.loads(written.json) == spec.model_dump(mode="json")
        assert written.digest == spec.digest()
        assert written.inversion_digest == spec.inversion_digest()
