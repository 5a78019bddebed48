"""Paths that come over the network: what leads out of the folders that may be read."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InvalidInput
from producer.paths import read_below

LIMIT = 1_000
Read = Callable[[Path | str], bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "summer").mkdir(parents=True)
    (folder / "summer" / "cat.png").write_bytes(b"cat")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def read(root: Path) -> Read:
    return lambda path: read_below(str(path), [str(root)], max_bytes=LIMIT)


def told(read: Read, path: Path | str) -> str:
    """The refusal, less the path that was asked for."""
    with pytest.raises(InvalidInput) as refused:
        read(path)
    assert refused.value.field == "source"
    return refused.value.problem.replace(repr(str(path)), "")


def test_a_file_below_a_root_is_read(read: Read, root: Path) -> None:
    assert read(root / "summer" / "cat.png") == b"cat"


def test_links_are_followed_as_far_as_the_root(read: Read, root: Path) -> None:
    (root / "best").symlink_to(root / "summer")
    (root / "tom.png").symlink_to("best/cat.png")

    assert read(root / "tom.png") == read(root / "best" / "cat.png") == b"cat"


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)

    path = tmp_path / "link" / "summer" / "cat.png"
    assert read_below(str(path), [str(tmp_path / "link")], max_bytes=LIMIT) == b"cat"


def test_what_lies_elsewhere_is_refused_alike_whether_it_exists_or_not(
    read: Read, root: Path
) -> None:
    outside = root.parent
    (root / "out").symlink_to(outside)
    (root / "secret.png").symlink_to(outside / "secret.png")
    (root / "nothing.png").symlink_to(outside / "nothing.png")

    answers = {
        told(read, path)
        for path in (
            outside / "secret.png",
            outside / "nothing.png",
            outside,
            root,
            root / "out" / "secret.png",
            root / "out" / "nothing.png",
            root / "secret.png",
            root / "nothing.png",
            f"{root}/../secret.png",
            f"{root}/../nothing.png",
            f"{root}/summer/./cat.png",
            f"{root}-2019/cat.png",
            f"/{root}/summer/cat.png",
            "summer/cat.png",
            f"{root}/\0.png",
        )
    }

    assert answers == {
        f" lies in no folder that may be read ({root}); upload the image, or add its folder to "
        "EDICT_SOURCE_ROOTS"
    }


def test_what_is_no_file_of_bearable_size_is_refused_without_waiting(
    read: Read, root: Path
) -> None:
    os.mkfifo(root / "pipe")
    (root / "long.png").write_bytes(b"x" * (LIMIT + 1))
    (root / "loop").symlink_to("loop")

    for name, complaint in (
        ("pipe", "no plain file"),
        ("summer", "no plain file"),
        ("none.png", "No such file"),
        ("summer/cat.png/x", "Not a directory"),
        ("loop", "symbolic links"),
        ("long.png", f"has {LIMIT + 1} bytes, over the limit of {LIMIT}; make it smaller"),
    ):
        assert re.search(complaint, told(read, root / name)), name


def test_a_file_that_grows_while_it_is_read_is_refused(
    read: Read, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = root / "summer" / "cat.png", os.fstat

    def grow(descriptor: int) -> os.stat_result:
        found = plain(descriptor)
        path.write_bytes(b"x" * 10 * LIMIT)
        return found

    monkeypatch.setattr(os, "fstat", grow)

    assert "over the limit" in told(read, path)


def test_a_link_that_changes_under_the_look_is_refused(
    read: Read, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "link.png").symlink_to(root / "summer" / "cat.png")

    def gone(path: Any, **_: Any) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", gone)

    assert "lies in no folder that may be read" in told(read, root / "link.png")


@pytest.mark.parametrize("swapped", ["summer", "summer/cat.png"])
def test_what_becomes_a_link_after_it_was_looked_at_is_not_followed(
    read: Read, root: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    (root.parent / "cat.png").write_bytes(b"secret")
    plain = os.path.realpath

    def swap(path: Any) -> str:
        real = plain(path)
        if str(path).endswith("cat.png"):
            (root / swapped).rename(root.parent / "before")
            (root / swapped).symlink_to(root.parent / ("cat.png" if "/" in swapped else ""))
        return real

    monkeypatch.setattr(os.path, "realpath", swap)

    assert "give the path of an image file" in told(read, root / "summer" / "cat.png")
