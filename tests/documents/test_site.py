"""The documentation's site: whole, strict, and silent towards other hosts."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from producer.api.app import describe
from tools.site.hooks import PAGES, name_of, rewritten

ROOT = Path(__file__).parents[2]
MADE = {*PAGES.values(), "http.md"}
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser asks for by itself."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", **_without_network()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def _without_network() -> dict[str, str]:
    """Whoever asks for something elsewhere is told at once that nobody answers."""
    nobody = "http://127.0.0.1:9"
    return {
        "http_proxy": nobody,
        "https_proxy": nobody,
        "HTTP_PROXY": nobody,
        "HTTPS_PROXY": nobody,
    }


class Fetches(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        # A canonical or next page is told, not fetched; icons and stylesheets are.
        if tag == "link" and values.get("rel") not in {"icon", "stylesheet", "preconnect"}:
            return
        if address := values.get(FETCHED.get(tag, "")):
            self.found.append(address)


def test_every_document_has_its_place_in_the_navigation():
    navigation = set(re.findall(r"[\w-]+\.md", yaml.dump(_configuration()["nav"])))
    documents = {path.name for path in (ROOT / "docs").glob("*.md")}

    assert navigation == documents | MADE


def _configuration() -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    return found


def test_links_of_documents_lead_to_pages_of_the_site():
    text = "[figures](../bench/RESULTS.md#x) [api](api.md) [elsewhere](https://a.b/c.md) [here](#x)"

    assert rewritten(text, "models.md") == (
        "[figures](figures.md#x) [api](api.md) [elsewhere](https://a.b/c.md) [here](#x)"
    )
    assert rewritten("[bulk](docs/bulk.md)", "index.md") == "[bulk](bulk.md)"
    assert name_of("LICENSE") == "LICENSE"


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_host_for_anything(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(MADE)

    for page in pages:
        parser = Fetches()
        parser.feed(page.read_text())
        assert parser.found, page
        for address in parser.found:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{page.name} fetches {address}"
            # The page of what is not found does not know where it is, so it begins at the root.
            folder = site if address.startswith("/") else page.parent
            assert (folder / address.partition("?")[0].lstrip("/")).is_file(), address


@pytest.mark.slow
def test_the_styles_of_the_site_fetch_nothing_from_elsewhere(site: Path):
    styles = list(site.rglob("*.css"))
    assert styles

    for style in styles:
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text())


@pytest.mark.slow
def test_the_reference_names_every_operation_and_shape_of_the_api(site: Path):
    text = (site / "http.html").read_text()
    description = describe()
    assert description["paths"]

    for path, operations in description["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in text
    for name in description["components"]["schemas"]:
        assert f'id="shape-{name.lower()}"' in text
