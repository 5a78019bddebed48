"""The checkpoints of all families, written once for each process."""

from pathlib import Path

import pytest

from .checkpoints import PIPELINES, write_family


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: write_family(name, root / name) for name in PIPELINES}
