"""One loop for both networks: AdamW, a moving average, checkpoints that survive a kill.

Invariant: all randomness of a step is a function of the seed and the step's number (`draw`), so
a run that was killed and resumed takes the very steps that an undisturbed one takes.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from edict_engine.numerics import fastest_dtype

from .files import load_checkpoint, save_checkpoint
from .recipe import Stage

Module = TypeVar("Module", bound=nn.Module)

#: Called after every step with the step's number.
Tick = Callable[[int], None]

WARM_UP = 200
FLOOR = 0.02
LOG_EVERY = 100
SAVE_EVERY_SECONDS = 60.0


def draw(seed: int, step: int) -> torch.Generator:
    """Make the source of randomness of one step. On the CPU, whatever device trains."""
    return torch.Generator().manual_seed((seed << 32) + step)


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bfloat16 where that is quicker: on few CPUs."""
    if fastest_dtype(device) == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def rate_at(stage: Stage, step: int) -> float:
    """Warm up, hold, then follow a cosine down to a small rest."""
    done = step / stage.steps
    late = max(0.0, (done - stage.hold) / (1 - stage.hold))
    decay = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * late))
    return stage.rate * min(1.0, (step + 1) / WARM_UP) * decay


@dataclass
class Training(Generic[Module]):
    """A module in training. `loss` gives the step's loss and figures worth logging."""

    module: Module
    loss: Callable[[int], tuple[Tensor, dict[str, float]]]
    stage: Stage
    checkpoint: Path
    digest: str

    def __post_init__(self) -> None:
        self.step = 0
        self.seconds = 0.0
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.stage.rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.average = {k: v.clone() for k, v in self._floats().items()}
        self._resume()

    def run(self, tick: Tick) -> None:
        """Train to the end of the stage; saves now and then, and at the end."""
        self.module.train()
        # The log may come before the first checkpoint.
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        saved, since = time.monotonic(), list[dict[str, float]]()
        while self.step < self.stage.steps:
            began = time.monotonic()
            figures = self._advance()
            self.seconds += time.monotonic() - began
            since.append(figures)
            if self.step % LOG_EVERY == 0:
                self._log(since)
                since = []
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                self.save()
                saved = time.monotonic()
            tick(self.step)
        self.save()

    def _advance(self) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.stage, self.step)
        loss, figures = self.loss(self.step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return figures

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; it follows faster at first, when the weights are far from good."""
        decay = min(self.stage.average, (self.step + 1) / (self.step + 20))
        current = self._floats()
        torch._foreach_lerp_(
            list(self.average.values()), [current[k] for k in self.average], 1 - decay
        )

    def use_average(self) -> None:
        """Put the averaged weights into the module, for use; training is over."""
        state = self.module.state_dict()
        self.module.load_state_dict(state | self.average)
        self.module.eval()

    def save(self) -> None:
        """Write everything that the next step depends on."""
        tensors = {f"weights/{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        tensors |= dict(self._moments())
        state = {"step": self.step, "seconds": self.seconds, "digest": self.digest}
        save_checkpoint(self.checkpoint, tensors, state)

    def _resume(self) -> None:
        found = load_checkpoint(self.checkpoint)
        if found is None:
            return
        tensors, state = found
        if state["digest"] != self.digest:
            raise ValueError(
                f"{self.checkpoint} was made by another recipe ({state['digest']}, not "
                f"{self.digest}): choose another --work folder, or remove the file to start anew"
            )
        self.step, self.seconds = state["step"], state.get("seconds", 0.0)
        self.module.load_state_dict(_below("weights/", tensors))
        for name, value in _below("average/", tensors).items():
            self.average[name].copy_(value)
        self._restore_moments(tensors)

    def _floats(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.module.state_dict().items() if v.is_floating_point()}

    def _moments(self) -> Iterable[tuple[str, Tensor]]:
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"adam/{name}/{key}", value

    def _restore_moments(self, tensors: dict[str, Tensor]) -> None:
        names = [name for name, _ in self.module.named_parameters()]
        state: dict[int, dict[str, Any]] = {}
        for index, name in enumerate(names):
            state[index] = _below(f"adam/{name}/", tensors)
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict(whole | {"state": {i: s for i, s in state.items() if s}})

    def _log(self, since: Sequence[dict[str, float]]) -> None:
        """Average the figures since the last line: of fewer steps, where the run was resumed."""
        record = {"step": self.step, "seconds": round(self.seconds, 1)}
        for name in since[0]:
            record[name] = round(sum(figures[name] for figures in since) / len(since), 5)
        with self.checkpoint.with_suffix(".jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
