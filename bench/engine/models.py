"""The model that is measured, in each precision, loaded when it is first asked for."""

from collections.abc import Iterator, Mapping

import torch

from edict_engine.compiled import INDUCTOR
from edict_engine.model import Model, load_model

MODEL = "demo"
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


class Models(Mapping[torch.dtype, Model]):
    """By the network's precision."""

    def __init__(self) -> None:
        self._loaded: dict[torch.dtype, Model] = {}

    def __getitem__(self, dtype: torch.dtype) -> Model:
        """Load it, or return what was loaded."""
        if dtype not in self._loaded:
            self._loaded[dtype] = load_model(MODEL, dtype=dtype, local_files_only=True)
        return self._loaded[dtype]

    def __iter__(self) -> Iterator[torch.dtype]:
        """Name what can be asked for."""
        return iter(DTYPES)

    def __len__(self) -> int:
        """Count it."""
        return len(DTYPES)

    def of_width(self, width: int) -> Model:
        """Load it in float32 for batches of ``width`` images or prompts."""
        return load_model(MODEL, dtype=torch.float32, auxiliary_batch=width, local_files_only=True)

    def compiled(self) -> Model:
        """Load it in float32 with a compiler."""
        return load_model(MODEL, dtype=torch.float32, compiler=INDUCTOR, local_files_only=True)
