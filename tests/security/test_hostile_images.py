"""Files that are small, and large once somebody reads them."""

import io
import resource
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from PIL import Image

from edict_engine.errors import EngineError
from edict_engine.images import load_image
from jobs.errors import InvalidInput
from jobs.objects import ObjectStore
from jobs.result_files import read_recipe
from producer.sources import SourceDoor

MEGABYTE = 2**20
Reader = Callable[[bytes], object]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    """A good PNG, with these chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * 8) * 8))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def deflated(megabytes: int) -> bytes:
    return zlib.compress(b"a" * (megabytes * MEGABYTE), 9)


BOMBS = {
    "one long text": [chunk(b"zTXt", b"edict\0\0" + deflated(500))],
    "many texts": [chunk(b"zTXt", b"%d\0\0" % each + deflated(1)) for each in range(500)],
    "a long international text": [chunk(b"iTXt", b"edict\0\1\0\0\0" + deflated(500))],
    "a colour profile": [chunk(b"iCCP", b"icc\0\0" + deflated(500))],
}


def as_webp(packet: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP", xmp=packet)
    return buffer.getvalue()


@pytest.fixture(params=["door", "worker", "recipe"])
def reader(request: pytest.FixtureRequest) -> Reader:
    """Everything that reads a user's file; what is refused is refused as a user's mistake."""
    door = SourceDoor(ObjectStore(None, "edict"), max_bytes=64 * MEGABYTE, max_pixels=64_000_000)  # type: ignore[arg-type]
    readers: dict[str, Reader] = {
        "door": lambda data: door.check(data, "a picture"),
        "worker": lambda data: load_image(data, size=8),
        "recipe": lambda data: read_recipe(data, "a picture"),
    }
    return readers[request.param]


def refused_or_harmless(reader: Reader, data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(InvalidInput, EngineError):
        reader(data)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024, f"{grown} kB"


@pytest.mark.parametrize("name", BOMBS)
def test_metadata_that_unpacks_to_much_is_refused_or_left_packed(reader: Reader, name: str):
    data = png_with(*BOMBS[name])
    assert len(data) < MEGABYTE

    refused_or_harmless(reader, data)


def test_an_image_that_unpacks_to_much_costs_no_memory(reader: Reader):
    refused_or_harmless(reader, png_with(width=50_000, height=50_000))
    with pytest.raises((InvalidInput, EngineError)):
        reader(png_with(width=50_000, height=50_000))


def test_a_packet_that_unfolds_is_not_unfolded(reader: Reader):
    entities = "".join(f'<!ENTITY l{each} "{f"&l{each - 1};" * 10}">' for each in range(1, 12))
    packet = f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><x>&l11;</x>'.encode()

    refused_or_harmless(reader, as_webp(packet))
    # Other encodings of the same hide the words from who looks for bytes.
    refused_or_harmless(reader, as_webp(packet.decode().encode("utf-16")))
