"""Keys and ids: the same everywhere and for ever."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from jobs.ids import new_id
from jobs.keys import inversion_key, result_key, sha256, source_key
from tests.jobs.factories import edit, inversion

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
RECIPE = "0adc4ad25ca82c0cb6a50062e9c008bd7cc89704f133cdad3fb24f29c0a5d7af"


def test_keys_are_pinned() -> None:
    # A key that changes orphans every object of every deployment.
    job_id = UUID("01234567-89ab-7def-8123-456789abcdef")

    assert sha256(b"") == EMPTY
    assert source_key(b"", "png") == f"sources/e3/b0/{EMPTY}.png"
    assert result_key(job_id, b"", "png") == f"results/{job_id}/{EMPTY[:32]}.png"
    assert inversion_key(inversion(), "r1") == f"inversions/0a/dc/{RECIPE}.safetensors"


def test_edits_of_one_image_have_one_inversion_key_for_each_model_revision() -> None:
    keys = {inversion_key(spec, "r1") for spec in (inversion(), edit(prompt="a"), edit(prompt="b"))}

    assert len(keys) == 1
    assert inversion_key(inversion(), "r2") not in keys
    assert inversion_key(inversion(1), "r1") not in keys


def test_ids_ascend_however_fast_they_are_made() -> None:
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(set(ids))
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {"specified in RFC 4122"}


def test_an_id_begins_with_its_moment() -> None:
    milliseconds = new_id().int >> 80

    assert abs(milliseconds - time.time_ns() // 1_000_000) < 1_000


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: new_id(), range(4_000)))

    assert len(set(ids)) == 4_000
