"""The images of a folder or prefix, and what is said beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.errors import InvalidInput
from producer.bulk.folders import read_folder
from producer.client import Client
from producer.folders import MAX_CAPTION_BYTES, captioned, images_in, images_under

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_images_come_in_order_and_names_with_a_dot_are_left_aside(tmp_path: Path) -> None:
    for name in ("b.png", ".b.png", "z/a.gif", "m/.thumbs/a.png", "m/c.JPEG", ".git/d.png", "t.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert [image.below for image in images_in(tmp_path)] == ["b.png", "m/c.JPEG", "z/a.gif"]


def test_folders_are_not_followed_through_links(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "inbox" / "up").symlink_to(tmp_path)
    assert list(images_in(tmp_path / "inbox")) == []


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none: No such file"):
        list(images_in(tmp_path / "none"))


def test_a_caption_comes_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.txt").write_bytes("\ufeffa Fluß,\r\n  at night\n".encode())
    assert [said.text for _, said in captioned(images_in(tmp_path))] == ["a Fluß, at night"]


def _link(path: Path) -> None:
    path.with_name("secret").write_text("a password")
    path.symlink_to(path.with_name("secret"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_link, "no links"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "a.txt is not UTF-8"),
        (lambda path: path.write_text("a" * (MAX_CAPTION_BYTES + 1)), "over 65536 bytes"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
    ids=["a link", "not UTF-8", "too long", "a folder"],
)
def test_a_caption_that_cannot_be_used_is_named_and_the_next_is_read(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_text("a bridge")
    spoil(tmp_path / "a.txt")

    bad, good = read_folder(tmp_path, ["caption"])

    assert said in str(bad.problem)
    assert "caption" not in bad.values
    assert good.problem is None
    assert good.values["caption"] == "a bridge"


def test_a_bucket_gives_images_and_captions_in_the_order_of_keys(
    client: Client, s3_client: "S3Client", bucket: str
) -> None:
    keys = {
        "in/a.png": b"",
        "in/a.txt": b"a lake\n",
        "in/b.webp": b"",
        "in/c.jpg": b"",
        "in/c.txt": b"c" * (MAX_CAPTION_BYTES + 1),
        "in/deep/d.png": b"",
        "in/deep/d.txt": b"\xff",
        "out/e.png": b"",
    }
    for key, body in keys.items():
        s3_client.put_object(Bucket=bucket, Key=key, Body=body)

    found = list(captioned(images_under(client.objects, f"s3://{bucket}/in/"), client.objects))

    names = [image.below for image, _ in found]
    assert names == ["a.png", "b.webp", "c.jpg", "deep/d.png"]
    assert [caption.text for _, caption in found] == ["a lake", None, None, None]
    problems = [caption.problem or "" for _, caption in found]
    assert problems[:2] == ["", ""]
    assert "c.txt is over 65536 bytes" in problems[2]
    assert "d.txt is not UTF-8" in problems[3]
