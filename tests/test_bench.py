"""The engine's measurements run and print what is kept. How quick anything is, no test says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SMALL = ("--steps", "3", "--images", "2", "--trajectories", "32", "--skip-compiled", "--json")
TABLES = ("scaling", "memory", "recipe", "alternatives", "ceiling")
"""bfloat16 takes minutes where it is emulated."""
FIGURES = ("speedup_float32", "loop_overhead_share", "rows_over_ceiling")


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    wanted = [part for table in TABLES for part in ("--only", table)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.engine", *wanted, *SMALL],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_object_has_every_figure_and_its_round_trips_are_exact(figures: dict[str, Any]) -> None:
    for name in FIGURES:
        assert figures[name] > 0
    assert figures["speedup_bfloat16"] is None
    assert figures["round_trip_max_error"] == 0


def test_every_alternative_and_every_number_of_lanes_has_a_row(figures: dict[str, Any]) -> None:
    names = [row["name"] for row in figures["alternatives"]]
    assert names.count("diffusers, DDIM inversion") == 2
    assert "diffusers, LEDITS++" in names
    assert {"engine, edict", "engine, bdia", "engine, o-belm"} <= set(names)
    assert [row["lanes"] for row in figures["scaling"]] == [1, 2, 4, 8, 16, 32]
