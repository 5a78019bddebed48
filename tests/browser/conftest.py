"""A deployment with its pages, and a browser that looks at them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from jobs.processes import Child
from tests.browser.browsers import MISSING, find_browser
from tests.pipeline import edict, eventually

MADE = Path(__file__).parents[2] / "producer" / "demo" / "made_by_the_model"
SETTING = ("--steps", "16", "--strength", "1", "--guidance", "4", "--mix", "0.78")


class Site(NamedTuple):
    """A running deployment with a batch `fruit` that has ended."""

    url: str
    home: Path

    def run(self, *arguments: str) -> str:
        """`edict …` in another shell."""
        done = subprocess.run(
            [sys.executable, "-m", "producer.cli", *arguments],
            env={**os.environ, "EDICT_HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    path = find_browser()
    if path is None:
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        # Chromium's own cage does not work for root, as in most containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`edict up` with the shipped model, and `edict serve`."""
    folder = tmp_path_factory.mktemp("site")
    home = folder / "home"
    with edict("up", "--home", str(home), environment={}, log=folder / "up.log"):
        eventually((home / "stack.json").exists)
        serve = edict(
            *("serve", "--port", "0"),
            environment={"EDICT_HOME": str(home)},
            log=folder / "serve.log",
        )
        with serve:
            site = Site(eventually(lambda: _url_of(serve)), home)
            images = [str(MADE / f"{name}.png") for name in ("lemons", "apples", "shorts")]
            prompts = ["--from", "a photo", "--to", "a pencil sketch", "--to", "a photo at night"]
            batch = ("--batch", "fruit", "--wait")
            site.run("submit", "edit", *images, *prompts, *SETTING, *batch)
            yield site


def _url_of(serve: Child) -> str | None:
    found = re.search(r"serving (\S+)", serve.log_tail())
    return found and found[1]


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A fresh page; whatever it complains about fails the test."""
    with browser.new_context(base_url=site.url, viewport={"width": 1200, "height": 900}) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(f"{said.text} {said.location['url']}")
                if said.type == "error"
                else None
            ),
        )
        yield page
        assert complaints == []
