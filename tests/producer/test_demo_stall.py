"""A demo whose workers never come up ends with their log instead of waiting for ever."""

import time
from pathlib import Path

import pytest
from rich.console import Console

from jobs.settings import Settings
from producer.client import Client
from producer.demo import run
from producer.demo.manifest import Item
from producer.demo.run import Course, DemoStalled
from producer.embedded.stack import EmbeddedStack
from tests.pipeline import environment_of


class SilentStack(EmbeddedStack):
    """Services that run already, and workers that never do anything."""

    def __init__(self, home: Path, settings: Settings) -> None:
        super().__init__(home)
        self._settings = settings

    def start_services(self) -> None:
        pass

    def migrate(self) -> None:
        pass

    def start_processes(self) -> None:
        (self.home / "logs").mkdir(parents=True)
        (self.home / "logs" / "worker.log").write_text('{"event": "device.died"}\n')

    def check(self) -> None:
        pass

    def environment(self) -> dict[str, str]:
        return environment_of(self._settings)


def test_silence_is_reported_with_the_workers_log(
    client: Client, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STALL_SECONDS", 1.0)
    stack = SilentStack(tmp_path / "home", client.settings)
    item = Item(image=str(photo), title="photo", base_prompt="a photo", edits=("a sketch",))
    began = time.monotonic()
    with pytest.raises(DemoStalled, match=r"device\.died"):
        Course(stack, 2, Console(quiet=True), "demo").run([item])
    assert time.monotonic() - began < 20
