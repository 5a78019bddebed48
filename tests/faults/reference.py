"""What a calm engine makes of every answer: `python -m tests.faults.reference STEPS…`.

A process of its own, on one core and with one thread, as the workers are: the last bits of a CPU's
sums depend on that. Prints one JSON object: steps → picture → prompt → SHA-256 of the pixels.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Self

from PIL import Image

from tests.faults.deployment import MODEL, RUNG
from tests.faults.workload import (
    BASE_PROMPT,
    EDIT_PROMPTS,
    PICTURES,
    SIZE,
    Answer,
    picture,
    sampler,
)


class Reference:
    """The pixels that jobs must give, by their number of steps."""

    def __init__(self, *steps: int) -> None:
        command = [sys.executable, "-m", "tests.faults.reference", *map(str, steps)]
        one = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **one}
        )
        self._known: dict[str, dict[str, dict[str, str]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def pixels(self, steps: int, answer: Answer) -> str:
        """SHA-256 of the pixels of a job with this answer; waits for the first."""
        if self._known is None:
            printed, _ = self._process.communicate(timeout=300)
            self._known = json.loads(printed.splitlines()[-1])
        number, prompt = answer
        return self._known[str(steps)][str(number)][str(prompt)]


def digest_of_pixels(data: bytes) -> str:
    """SHA-256 of an image file's pixels: what else the file tells may change."""
    with Image.open(io.BytesIO(data)) as image:
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def main() -> None:
    """Compute and print."""
    import torch

    from edict_engine.editor import Editor
    from edict_engine.engine import Engine
    from edict_engine.model import load_model

    torch.set_num_threads(1)
    model = load_model(MODEL, dtype=torch.float32)
    with Engine(model, rungs=(RUNG,)) as engine:
        made = _Maker(Editor(model, engine))
        found = {
            steps: {number: made.answers(steps, number) for number in range(PICTURES)}
            for steps in map(int, sys.argv[1:])
        }
    print(json.dumps(found))  # noqa: T201


class _Maker:
    def __init__(self, editor) -> None:  # type: ignore[no-untyped-def]
        self._editor = editor

    def answers(self, steps: int, number: int) -> dict[str, str]:
        from concurrent.futures import ThreadPoolExecutor

        from edict_engine.images import load_image
        from worker.noise import parameters

        multiple = self._editor.model.pixel_factor
        image = load_image(picture(number), size=SIZE, multiple=multiple)
        inversion = self._editor.invert(image, BASE_PROMPT, parameters(sampler(steps)))
        rebuilt = self._editor.reconstruct(inversion, image)
        assert rebuilt.exact
        with ThreadPoolExecutor(len(EDIT_PROMPTS)) as pool:
            edits = pool.map(lambda prompt: self._editor.edit(inversion, prompt), EDIT_PROMPTS)
        images = dict(zip(EDIT_PROMPTS, (edit.image for edit in edits), strict=True))
        images |= {"None": rebuilt.image}
        return {prompt: _digest(image) for prompt, image in images.items()}


def _digest(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return digest_of_pixels(buffer.getvalue())


if __name__ == "__main__":
    main()
