"""The demo's images are there, good enough for the door, and of known origin."""

from pathlib import Path

import pytest

from jobs.errors import InvalidInput
from jobs.specs import ModelRef
from producer.admission import admit
from producer.client import Client
from producer.demo.manifest import Item, bundled, from_folder

DEMO = Path(__file__).parents[2] / "producer" / "demo"
ITEMS = bundled()


def test_the_manifest_is_as_large_as_promised() -> None:
    photographs = [item for item in ITEMS if item.image.startswith("skimage:")]
    assert len(ITEMS) >= 10
    assert len(photographs) >= 8
    assert len({item.image for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.image)
def test_every_image_has_three_edits_and_a_reconstruction(item: Item) -> None:
    kinds = [row.fields["kind"] for row in item.rows()]
    assert kinds[0] == "reconstruction"
    edits = [*item.edits, *item.local_edits]
    assert kinds[1:] == ["edit"] * len(edits)
    assert len(set(edits)) == len(edits) >= 3
    assert item.base_prompt not in edits


def test_colours_of_things_are_kept_to_the_things() -> None:
    rows = [row for item in ITEMS for row in item.rows() if row.fields.get("mask") == "auto"]
    assert {"a photo of green apples", "a photo of red shorts"} <= {
        row.fields["edit_prompt"] for row in rows
    }
    assert all(row.fields["keep_pixels"] for row in rows)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.image)
def test_every_image_is_there_and_its_licence_is_written_down(item: Item) -> None:
    assert item.path.is_file()
    assert item.origin
    assert f"`{item.path.name}`" in (DEMO / "SOURCES.md").read_text()


def test_every_row_passes_the_door(client: Client) -> None:
    rows = [row for item in ITEMS for row in item.rows()]
    admission = admit(rows, client.sources, ModelRef(name="demo"))
    assert not admission.refused
    assert len({spec.digest() for spec in admission.specs}) == len(rows)
    assert len({spec.inversion_digest() for spec in admission.specs}) == len(ITEMS)


def test_a_folder_of_ones_own_gives_an_item_for_each_image(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    [item] = from_folder(tmp_path)
    assert item.path == photo
    assert item.title == "photo.png"
    assert len(item.rows()) >= 4


def test_a_folder_without_images_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no image"):
        from_folder(tmp_path)
    with pytest.raises(InvalidInput, match="is not a folder"):
        from_folder(tmp_path / "none")
