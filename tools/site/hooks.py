"""MkDocs hooks: pages that lie outside of docs/, and pages made from code.

On GitHub the documents link to each other by their places in the checkout. On the site the same
links have to lead to pages of the site; what is no page is copied beside them.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.site.http_reference import http_reference

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "bench/RESULTS.md": "figures.md",
    "deploy/README.md": "deploy.md",
    "edict_engine/small_model/MODEL_CARD.md": "small-model.md",
}
"""Documents outside of docs/, by their path in the checkout, and their names on the site."""
_PLACES = {name: place for place, name in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for place, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / place).read_text()))
    files.append(File.generated(config, "http.md", content=http_reference()))
    for place in sorted(_copied(files)):
        files.append(File.generated(config, place, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let the links of a document lead to where its neighbours are on the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, name: str) -> str:
    """The document of that name on the site, with links that hold there."""
    folder = posixpath.dirname(place_of(name))

    def there(match: re.Match[str]) -> str:
        return name_of(posixpath.normpath(posixpath.join(folder, match[1])))

    return _LINK.sub(there, markdown)


def place_of(name: str) -> str:
    """Where in the checkout a page of the site comes from."""
    return _PLACES.get(name, f"docs/{name}")


def name_of(place: str) -> str:
    """What a file of the checkout is called on the site."""
    return PAGES.get(place, place.removeprefix("docs/"))


def _copied(files: Files) -> set[str]:
    """Files of the checkout that documents link to and that are no pages."""
    linked = set()
    for file in files.documentation_pages():
        links = _LINK.findall(rewritten(file.content_string, file.src_uri))
        linked |= {link for link in links if files.get_file_from_path(link) is None}
    return {link for link in linked if (ROOT / link).is_file()}
