"""Jobs that are cheap, many, and of which it is known what must come of them.

A group is one image with a sampler seed of its own and eight jobs: seven edits and a
reconstruction, which share one inversion. EDICT draws nothing from the seed, so it makes jobs
different (also for the store of inversions) and leaves their pixels alike: a few reference pictures
foretell any number of jobs. And the same job may be submitted again wherever a fault cut in.
"""

import io
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import ServiceUnavailable
from jobs.keys import sha256
from jobs.records import Submission
from jobs.specs import (
    EditSpec,
    ImageOptions,
    ModelRef,
    ReconstructionSpec,
    SamplerOptions,
    Source,
    Spec,
)
from producer.client import Client
from tests.faults.deployment import MODEL

BASE_PROMPT = "a cat"
EDIT_PROMPTS = tuple(f"a {animal}" for animal in ("dog", "fox", "owl", "hen", "cow", "bee", "elk"))
PICTURES = 2
SIZE = 16
"""Pixels on a side: a latent of 2 x 2."""
GROUP = len(EDIT_PROMPTS) + 1
CHUNK = 1_000
"""Jobs of one submission."""
BAD_EVERY = 10
"""One group in so many is followed by a job whose image is rubbish."""

Answer = tuple[int, str | None]
"""What decides a good job's pixels: its picture and edit prompt (None: reconstructed)."""

_seeds = itertools.count()


@dataclass
class Workload:
    """What was submitted, and what must come of it."""

    steps: int
    good: dict[UUID, Answer] = field(default_factory=dict)
    bad: set[UUID] = field(default_factory=set)
    """Jobs whose image is rubbish."""

    @property
    def job_ids(self) -> list[UUID]:
        return [*self.good, *self.bad]


def picture(number: int) -> bytes:
    """A small noisy PNG."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sampler(steps: int, seed: int = 0) -> SamplerOptions:
    """One network row a step: without guidance there is no second."""
    return SamplerOptions(steps=steps, strength=1.0, guidance_scale=1.0, seed=seed)


class Submitter:
    """Submits good and bad jobs in groups."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sources = [
            client.sources.upload(picture(number), f"picture {number}")
            for number in range(PICTURES)
        ]

    def submit(self, groups: int, steps: int, *, patient: bool = False) -> Workload:
        """Submit that many groups of eight; a patient one goes on where a fault cut it short."""
        workload = Workload(steps)
        specs = list(self.specs(groups, steps))
        for start in range(0, len(specs), CHUNK):
            part = specs[start : start + CHUNK]
            submissions = self._send([spec for spec, _ in part], patient=patient)
            for submission, (_, answer) in zip(submissions, part, strict=True):
                if answer is None:
                    workload.bad.add(submission.job_id)
                else:
                    workload.good[submission.job_id] = answer
        return workload

    def _send(self, specs: list[Spec], *, patient: bool) -> list[Submission]:
        while True:
            try:
                return self._client.submit(specs)
            except SQLAlchemyError:
                # What was committed is found again: a spec is one job however often it is sent.
                if not patient:
                    raise
                time.sleep(1)

    def specs(self, groups: int, steps: int) -> Iterator[tuple[Spec, Answer | None]]:
        """Specs and what must come of them (None: they must fail)."""
        for number in range(groups):
            seed = next(_seeds)
            for answer in self._answers(seed % PICTURES):
                yield spec_of(answer, self._sources[answer[0]], steps, seed), answer
            if number % BAD_EVERY == BAD_EVERY - 1:
                yield spec_of((0, None), self._rubbish(seed), steps, seed), None

    @staticmethod
    def _answers(picture_number: int) -> Sequence[Answer]:
        return [(picture_number, prompt) for prompt in (*EDIT_PROMPTS, None)]

    def _rubbish(self, seed: int) -> Source:
        """A source that nobody can read; the door would have refused it."""
        data, key = b"no picture %d" % seed, f"sources/rubbish-{seed}.png"
        while True:
            try:
                self._client.objects.put(key, data, "image/png")
                return Source(uri=self._client.objects.uri(key), sha256=sha256(data))
            except ServiceUnavailable:
                time.sleep(1)


def spec_of(answer: Answer, source: Source, steps: int, seed: int) -> Spec:
    """The job whose pixels `answer` decides."""
    _, prompt = answer
    shared = {
        "source": source,
        "model": ModelRef(name=MODEL),
        "base_prompt": BASE_PROMPT,
        "image": ImageOptions(size=SIZE),
        "sampler": sampler(steps, seed),
    }
    if prompt is None:
        return ReconstructionSpec(**shared)
    return EditSpec(**shared, edit_prompt=prompt)
