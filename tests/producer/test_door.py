"""What the door for images lets in, and what it says to the others."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidInput
from jobs.objects import ObjectStore
from producer.client import Client
from producer.sources import SourceDoor
from tests.producer.conftest import png


class NoObjects(ObjectStore):
    """A bucket that must not be touched."""

    def __init__(self) -> None:
        self.bucket = "none"


DOOR = SourceDoor(NoObjects(), max_bytes=100_000, max_pixels=1_000_000)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises that many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no image"),
        (b"These are words, not pixels.", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (png((200, 200))[:-80], "damaged"),
        (png((200, 200))[:40], "no image"),
        (bomb(1_001, 1_000), "over the limit of 1000000"),
        (bomb(60_000, 60_000), "make it smaller"),
    ],
)
def test_bytes_that_are_no_good_image_are_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=r"cat\.png") as refused:
        DOOR.check(data, "cat.png")
    assert said in str(refused.value)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_damage_anywhere_is_refused_or_harmless(noise: bytes, at: int) -> None:
    whole = png((64, 64))
    broken = whole[:at] + noise + whole[at + len(noise) :]
    try:
        DOOR.check(broken, "cat.png")
    except InvalidInput as refused:
        assert "cat.png" in str(refused)  # noqa: PT017 - other errors must come out


def test_a_missing_file_a_folder_and_a_large_file_are_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"\0" * 100_001)
    for where, said in [
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "is a folder"),
        (large, "over the limit of 100000"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            DOOR.admit(str(where))


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput):
        DOOR.admit(str(tmp_path / "pipe"))


def test_an_image_lands_under_its_digest_and_only_once(client: Client, photo: Path) -> None:
    first = client.sources.admit(str(photo))
    again = client.sources.admit(str(photo))
    assert first == again
    assert first.sha256 in first.uri
    assert client.objects.read(first.uri, max_bytes=10_000) == photo.read_bytes()


def test_an_image_in_the_bucket_is_taken_as_it_lies(client: Client) -> None:
    client.objects.put("mine/cat.png", png(), "image/png")
    uri = client.objects.uri("mine/cat.png")
    assert client.sources.admit(uri).uri == uri


def test_other_buckets_are_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="EDICT_SOURCE_BUCKETS"):
        client.sources.admit("s3://somebody-elses/cat.png")
