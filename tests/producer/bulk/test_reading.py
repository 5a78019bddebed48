"""Manifests as rows: what is read, and what becomes of each thing that can be wrong."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import InvalidInput
from jobs.objects import ObjectStore
from producer.bulk.chunks import MAX_ROWS, chunks
from producer.bulk.folders import read_folder
from producer.bulk.places import Root
from producer.bulk.reading import open_manifest, read_csv, read_jsonl
from producer.bulk.rows import MAX_ROW_BYTES, RawRow
from producer.bulk.template import Template


class NoObjects(ObjectStore):
    """A bucket that must not be touched."""

    def __init__(self) -> None:
        self.bucket = "none"


def rows_of(path: Path, wanted: list[str] | None = None) -> list[RawRow]:
    return list(open_manifest(str(path), NoObjects()).read(wanted or []))


def jsonl(text: str | bytes) -> list[RawRow]:
    return list(read_jsonl(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def comma(text: str | bytes) -> list[RawRow]:
    return list(read_csv(io.BytesIO(text.encode() if isinstance(text, str) else text)))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), TEXT, min_size=1), max_size=8)


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_json_lines_come_back_as_they_were_written(rows: list[dict[str, str]]) -> None:
    written = "".join(json.dumps(row) + "\n" for row in rows)
    assert [row.values for row in jsonl(written)] == rows
    assert [row.values for row in jsonl(gzip.compress(written.encode()))] == rows


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_csv_comes_back_and_empty_cells_are_not_given(rows: list[dict[str, str]]) -> None:
    written = io.StringIO(newline="")
    table = csv.DictWriter(written, ["a", "b", "c", "n"], restval="")
    table.writeheader()
    table.writerows({**row, "n": "1"} for row in rows)
    full = [{k: v for k, v in {**row, "n": "1"}.items() if v} for row in rows]
    assert [row.values for row in comma(written.getvalue())] == full


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


def _zstd(path: Path, rows: list[dict[str, Any]]) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\ufeff" + "\n".join(json.dumps(row) for row in rows))


def _tabs(path: Path, rows: list[dict[str, Any]]) -> None:
    cells = [[*rows[0]], *([str(value) for value in row.values()] for row in rows)]
    path.write_text("".join("\t".join(row) + "\r\n" for row in cells))


@pytest.mark.parametrize(
    ("name", "write"),
    [("m.parquet", _parquet), ("m.jsonl.zst", _zstd), ("m.ndjson", _lines), ("m.TSV", _tabs)],
)
def test_every_kind_of_file_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    rows = [{"image": f"{n}.png", "edit_prompt": "ein Hund, 犬"} for n in range(5)]
    write(tmp_path / name, rows)
    read = rows_of(tmp_path / name)
    assert [dict(row.values) for row in read] == rows
    assert [row.number for row in read] == [1, 2, 3, 4, 5]


def test_of_parquet_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    _parquet(tmp_path / "m.parquet", [{"image": "a.png", "pixels": "x" * 1000}])
    assert rows_of(tmp_path / "m.parquet", ["image"])[0].values == {"image": "a.png"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_spreadsheets_unicode_text_is_refused_as_what_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    path.write_text("image,edit_prompt\na.png,b\n", encoding="utf-16")
    with pytest.raises(InvalidInput, match="is UTF-16; save it as UTF-8"):
        rows_of(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"image": "a.png"', "file cut short"),
        (b'{"image": "caf\xe9.png"}\n', "not UTF-8 at byte 15"),
        (b'{"image": NaN}\n', "holds NaN, which is no value of JSON"),
        (b'["a.png"]\n', "no JSON object"),
        (
            b"[" * 100_000 + b"]" * 100_000 + b"\n",
            "is nested 100000 levels deep, over the limit of 100; no field takes more",
        ),
        (
            b'{"image": "a.png", "n": ' + b"9" * 4_301 + b"}\n",
            "a number of 4301 digits, over the limit of 4300; write it as text",
        ),
        (b'{"image": "a.png", "steps": 1, "image": "b.png"}\n', "names 'image' 2 times; keep one"),
        (b'{"image": "a.png", "edits": [{"mask": 1, "mask": 2}]}\n', "names 'mask' 2 times"),
        (b"[" * 101 + b'"' + b'\\"' * 400_000 + b"\n", "is nested 101 levels deep"),
        (
            b'{"' + b'": 1, "'.join(b"%d" % (n % 70_000) for n in range(70_001)) + b'": 1}\n',
            "names '0' 2 times",
        ),
        (b'{"image": "' + b"x" * MAX_ROW_BYTES + b'"}\n', "bytes long"),
        (
            json.dumps({f"c{n}": n for n in range(10_000)}).encode() + b"\n",
            "10000 columns, over the limit",
        ),
    ],
    ids=[
        *("cut", "latin1", "nan", "list", "deep", "digits", "twice", "twice inside"),
        *("no end", "last of many", "long", "wide"),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_read(line: bytes, said: str) -> None:
    first, broken = jsonl(b'{"image": "ok.png"}\n' + line)
    assert first.values == {"image": "ok.png"}
    assert broken.number == 2
    assert said in str(broken.problem)
    if line.endswith(b"\n"):
        assert jsonl(line + b'{"image": "ok.png"}\n')[1].values == {"image": "ok.png"}


def test_brackets_in_texts_nest_nothing() -> None:
    [row] = jsonl(json.dumps({"image": "a.png", "edit_prompt": '"' + "[{" * 200}).encode())

    assert row.problem is None
    assert row.values["edit_prompt"] == '"' + "[{" * 200


def test_a_number_of_as_many_digits_as_the_limit_is_read() -> None:
    [row] = jsonl(b'{"image": "a.png", "n": ' + b"9" * 4_300 + b"}")

    assert row.values["n"] == 10**4_300 - 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"a.png,a dog,more\n", "3 cells and the header 2"),
        (b"a.png\n", "1 cells and the header 2"),
        (b"caf\xe9.png,a dog\n", "not UTF-8"),
        (b'"a.png"x,a dog\n', "no CSV"),
    ],
)
def test_a_broken_row_of_csv_is_named_and_the_others_are_read(line: bytes, said: str) -> None:
    broken, good = comma(b"image,edit_prompt\n" + line + b"b.png,a cat\n")
    assert said in str(broken.problem)
    assert good.values == {"image": "b.png", "edit_prompt": "a cat"}


def test_a_quote_that_is_never_closed_is_named() -> None:
    rows = comma('image,edit_prompt\na.png,"a dog\nb.png,a cat\n')
    assert [row.number for row in rows] == [1]
    assert "quotes" in str(rows[0].problem)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (",".join(f"c{n}" for n in range(10_000)), "10000 columns, over the limit of 1000"),
        ("image,image", "'image' twice"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(header: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        comma(header + "\n")


def test_damaged_files_are_refused_as_a_whole(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"image": "a.png"}\n' * 10_000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.parquet").write_text("words")
    _zstd(tmp_path / "m.jsonl.zst", [{"image": str(n)} for n in range(50_000)])
    zst = (tmp_path / "m.jsonl.zst").read_bytes()
    (tmp_path / "cut.jsonl.zst").write_bytes(zst[: len(zst) // 2])
    for name in ("cut.jsonl.gz", "words.parquet", "cut.jsonl.zst"):
        with pytest.raises(InvalidInput, match="copy it again"):
            rows_of(tmp_path / name)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.docx").touch()
    with pytest.raises(InvalidInput, match=r"of no kind that is read.*\.parquet"):
        rows_of(tmp_path / "m.docx")
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        rows_of(tmp_path / "none.jsonl")


def test_a_folder_gives_its_images_with_captions_in_order(tmp_path: Path) -> None:
    (tmp_path / "dogs").mkdir()
    for name in ("b.jpg", "a.PNG", "dogs/c.webp", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_text("a cat\n")
    rows = [dict(row.values) for row in read_folder(tmp_path, ["caption"])]
    assert rows == [
        {"image": "a.PNG", "path": "a.PNG", "name": "a", "folder": ""},
        {"image": "b.jpg", "path": "b.jpg", "name": "b", "folder": "", "caption": "a cat"},
        {"image": "dogs/c.webp", "path": "dogs/c.webp", "name": "c", "folder": "dogs"},
    ]


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "link/secret.png", "a\0b"])
def test_images_outside_of_the_root_are_refused(tmp_path: Path, image: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match=r"lies outside of|null character"):
        Root.of(str(tmp_path / "data")).place(image)


def test_images_within_the_root_are_found() -> None:
    assert Root.of("/data").place("x/../cat.png") == "/data/cat.png"
    assert Root.of("/data").place("/data/cat.png") == "/data/cat.png"
    assert Root.of("s3://b/m/").place("x/cat.png") == "s3://b/m/x/cat.png"
    with pytest.raises(InvalidInput, match="outside of s3://b/m/"):
        Root.of("s3://b/m").place("../other/cat.png")


def test_templates_make_every_combination_once() -> None:
    template = Template.parse(
        "{caption}", ["{caption}, in {season}", "{{{name}}}"], {"season": ["winter", "summer"]}
    )
    edits = list(template.edits({"caption": "a {dog}", "name": "rex"}))
    assert edits == ["a {dog}, in winter", "a {dog}, in summer", "{rex}"]
    assert template.names == {"caption", "name"}


@pytest.mark.parametrize(
    ("to", "vary", "said"),
    [
        ("{", {}, "write a brace itself"),
        ("{a.__class__}", {}, "no column's name"),
        ("{a!r:>9}", {}, "no column's name"),
        ("{}", {}, "no column's name"),
        ("{a}", {"b": ["1"]}, "no --to uses"),
        ("{a}", {"a": [str(n) for n in range(2_000)]}, "2000 edits of each image"),
    ],
)
def test_templates_that_cannot_be_meant_are_refused(
    to: str, vary: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        Template.parse(None, [to], vary)


def test_a_value_that_is_missing_or_no_text_is_named() -> None:
    template = Template.parse(None, ["{caption}"], {})
    with pytest.raises(InvalidInput, match=r"needs 'caption', which the row has not .*image"):
        list(template.edits({"image": "a.png"}))
    with pytest.raises(InvalidInput, match=r"caption: is \['a'\], no text"):
        list(template.edits({"caption": ["a"]}))


def _numbered(count: int) -> Iterator[RawRow]:
    return (RawRow(n, {"image": f"{n}.png"}) for n in range(count))


def test_a_row_more_changes_few_chunks() -> None:
    rows = [*_numbered(5_000)]
    before = {chunk.digest for chunk in chunks(rows)}
    after = {
        chunk.digest for chunk in chunks([*rows[:2_500], RawRow(9, {"a": "b"}), *rows[2_500:]])
    }
    assert len(before) > 8
    assert len(after - before) <= 2
    assert all(len(chunk.rows) <= MAX_ROWS for chunk in chunks(rows))
