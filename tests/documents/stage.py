"""Real servers, a worker and the tiny model, in front of which a page's blocks are run."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import numpy as np
from PIL import Image

from jobs.processes import Child
from jobs.settings import Settings
from tests.documents.blocks import ROOT, Block
from tests.pipeline import environment_of

PATIENCE_SECONDS = 120.0
NOBODY = "http://127.0.0.1:9/hook"
"""Where webhooks go to: the documents' receivers are not ours to call."""
CAPTION = "a photo of fruit"

_PICTURES = ("cat.jpg", "lemons.jpg", "lemons.png", "photographs/apples.jpg")
_WARM = Path(__file__).with_name("warm.py")
_SHELL = """set -euo pipefail
curl() { command curl --silent --fail-with-body "$@"; }
if [ -f variables.sh ]; then . ./variables.sh; fi
"""


class Stage:
    """A folder as a reader of one page has it, and the services around it."""

    def __init__(self, folder: Path, settings: Settings, port: int, warm: Path) -> None:
        self.folder = folder
        self.settings = settings
        self._port = port
        self._beside: list[Child] = []
        tools = folder / ".venv" / "bin"
        tools.mkdir(parents=True)
        (tools / "edict").write_text(
            f'#!/bin/sh\nexec {sys.executable} -S -E {_WARM} {warm} "$@"\n'
        )
        (tools / "edict").chmod(0o755)
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("EDICT_", "PYTHON"))},
            **environment_of(settings),
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "no_proxy": "127.0.0.1",
        }
        for number, name in enumerate(_PICTURES):
            draw(folder / name, number)

    def close(self) -> None:
        """End what runs beside."""
        for child in self._beside:
            child.stop()

    def run(self, block: Block, texts: Mapping[str, str], prelude: str = "") -> None:
        """Run a block to its end, or start it if it runs beside."""
        text = self._here(block.text, texts)
        if block.beside:
            self._start(text)
        elif block.language == "python":
            self.check([sys.executable, "-"], prelude + text, block.place)
        else:
            self.check(["bash", "-c", _SHELL + text], "y\n" * 20, block.place)

    def check(self, command: list[str], entered: str, place: str) -> None:
        """Run a command with this input; it has to end with 0."""
        done = subprocess.run(
            self._with_variables(command),
            input=entered,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"

    def _with_variables(self, command: list[str]) -> list[str]:
        return ["bash", "-c", _SHELL + 'exec "$@"', "bash", *command]

    def _here(self, text: str, texts: Mapping[str, str]) -> str:
        """The text with the addresses that hold here."""
        here = f"http://127.0.0.1:{self._port}"
        places = {
            "http://127.0.0.1:8080": here,
            "https://edict.example.org": here,
            "https://example.org/hooks/edict": NOBODY,
            "s3://photos/": f"s3://{self.settings.s3_bucket}/photos/",
            # A process of its own, which ends with its shell.
            "edict serve": f"{sys.executable} -m producer.cli serve --port {self._port}",
        }
        for old, new in {**places, **texts}.items():
            text = text.replace(old, new)
        return text

    def _start(self, text: str) -> None:
        log = self.folder / "beside.log"
        child = Child(
            "beside",
            ["bash", "-c", _SHELL + text],
            environment=self._environment,
            folder=self.folder,
            log=log,
        )
        self._beside.append(child.start())
        child.wait_until(self._answers, PATIENCE_SECONDS)

    def _answers(self) -> bool:
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}/livez", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            time.sleep(0.1)
            return False


def draw(path: Path, number: int) -> None:
    """A small picture of its own, with a caption beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.with_suffix(".txt").write_text(CAPTION)
