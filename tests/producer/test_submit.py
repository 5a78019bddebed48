"""`edict submit`: bad rows are refused, good ones go."""

import re
from pathlib import Path

import pytest

from jobs.keys import sha256
from jobs.specs import EditSpec, Source
from producer.client import Client
from tests.producer.conftest import Edict, Finish, png

EDIT = ["submit", "edit", "--from", "a photo of lemons"]


def test_every_image_is_edited_under_every_prompt(
    edict: Edict, client: Client, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(png(colour="red"))
    done = edict(*EDIT, photo, other, "--to", "blue lemons", "--to", "limes", "--batch", "fruit")
    assert done.exit_code == 0
    assert "4 submitted" in done.stderr
    specs = [job.spec for job in client.store.jobs_of(client.store.batch("fruit").id)]
    assert [spec.edit_prompt for spec in specs if isinstance(spec, EditSpec)] == [
        "blue lemons",
        "limes",
        "blue lemons",
        "limes",
    ]


def test_bad_images_are_refused_by_row_and_the_good_ones_still_go(
    edict: Edict, client: Client, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.jpg").write_text("not pixels")
    done = edict(*EDIT, "words.jpg", photo, "none.png", "--to", "limes", "--batch", "fruit")
    assert done.exit_code == 1
    assert re.search(r"refused row 1: words\.jpg", done.stderr)
    assert re.search(r"refused row 3: none\.png does not exist", done.stderr)
    assert "1 submitted, 2 refused" in done.stderr
    assert len(client.store.jobs_of(client.store.batch("fruit").id)) == 1


def test_a_blank_prompt_is_refused_and_its_neighbours_go(
    edict: Edict, services: object, photo: Path
) -> None:
    done = edict(*EDIT, photo, "--to", "  ", "--to", "limes")
    assert done.exit_code == 1
    assert "row 1" in done.stderr
    assert "edit_prompt: is empty" in done.stderr
    assert "1 submitted, 1 refused" in done.stderr


def test_where_all_rows_are_bad_nothing_is_made(edict: Edict, client: Client) -> None:
    done = edict(*EDIT, "none.png", "--to", "limes", "--batch", "fruit")
    assert done.exit_code == 1
    assert "0 submitted, 1 refused" in done.stderr
    assert not any(client.store.counts().values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strength", "7"], "strength"),
        (["--strength", "0"], "strength"),
        (["--strength", "nan"], "strength"),
        (["--steps", "2", "--strength", "0.1"], "leaves no step"),
        (["--steps", "0"], "steps"),
        (["--steps", "1001"], "steps"),
        (["--mix", "0.3"], "mix"),
        (["--fit", "squash"], "fit"),
        (["--size", "5000"], "size"),
        (["--guidance", "-1"], "guidance"),
        (["--model", "unknown"], "not in the catalogue (demo)"),
    ],
)
def test_options_out_of_their_domain_are_usage_errors(
    edict: Edict, services: object, photo: Path, options: list[str], said: str
) -> None:
    done = edict(*EDIT, photo, "--to", "limes", *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "fruit", "--webhook", "ftp://me"], "webhook"),
        (["--batch", "fruit", "--job-webhook", "http://127.0.0.1/me"], "not a public address"),
        (["--batch", ""], "must be 1 to 200 printable characters"),
    ],
)
def test_what_is_refused_whatever_the_images_leaves_nothing_behind(
    edict: Edict, client: Client, photo: Path, options: list[str], said: str
) -> None:
    done = edict(*EDIT, photo, "--to", "limes", *options)

    assert done.exit_code == 2
    assert said in done.stderr
    assert client.store.batches(1) == []
    assert list(client.objects.under(f"s3://{client.objects.bucket}/")) == []


def test_the_same_again_is_the_same_job_and_force_makes_a_new_one(
    edict: Edict, client: Client, photo: Path
) -> None:
    once = [*EDIT, photo, "--to", "limes"]
    edict(*once)
    assert "1 known before" in edict(*once).stderr
    assert sum(client.store.counts().values()) == 1
    edict(*once, "--force")
    assert sum(client.store.counts().values()) == 2


@pytest.mark.parametrize("kind", ["invert", "reconstruct"])
def test_inversions_and_reconstructions_need_no_other_prompt(
    edict: Edict, client: Client, photo: Path, kind: str
) -> None:
    assert edict("submit", kind, photo, "--from", "lemons", "--batch", kind).exit_code == 0
    [job] = client.store.jobs_of(client.store.batch(kind).id)
    assert job.spec.kind == {"invert": "inversion", "reconstruct": "reconstruction"}[kind]


def test_waiting_for_what_is_done_ends_at_once(
    edict: Edict, finish: Finish, client: Client, photo: Path
) -> None:
    submit = [*EDIT, photo, "--to", "limes", "--batch", "fruit"]
    edict(*submit)
    finish("fruit", png())
    waited = edict(*submit, "--wait")
    assert waited.exit_code == 0
    assert "1/1 done, 0 failed" in waited.output


def test_a_prompt_with_markup_is_shown_as_it_was_typed(
    edict: Edict, services: object, photo: Path
) -> None:
    done = edict(*EDIT, photo, "--to", "[bold]limes[/] [red]")
    assert done.exit_code == 0
    assert "[bold]limes[/] [red]" in done.stdout


def test_sampler_mask_and_guidance_reach_the_spec(
    edict: Edict, client: Client, photo: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(png(colour="white"))
    options = ["--sampler", "bdia", "--gamma", "0.9", "--guidance-rescale", "0.5"]
    options += ["--guidance-interval", "0.1", "0.9", "--attention-control", "--keep-pixels"]
    done = edict(*EDIT, photo, "--to", "limes", "--mask", mask, *options, "--batch", "masked")
    assert done.exit_code == 0
    [job] = client.store.jobs_of(client.store.batch("masked").id)
    assert isinstance(job.spec, EditSpec)
    sampler = job.spec.sampler
    assert (sampler.name, sampler.gamma, sampler.guidance_rescale) == ("bdia", 0.9, 0.5)
    assert sampler.guidance_interval == (0.1, 0.9)
    assert job.spec.attention_control
    assert job.spec.keep_pixels
    assert isinstance(job.spec.mask, Source)
    assert job.spec.mask.sha256 == sha256(mask.read_bytes())


def test_keeping_pixels_without_a_mask_refuses_the_row_and_says_what_to_do(
    edict: Edict, client: Client, photo: Path
) -> None:
    done = edict(*EDIT, photo, "--to", "limes", "--keep-pixels")
    assert done.exit_code == 1
    assert "keep_pixels: keeps the pixels outside of a mask, and there is no mask" in done.stderr
    assert not any(client.store.counts().values())


def test_a_mask_that_is_no_image_refuses_the_row_and_names_the_mask(
    edict: Edict, client: Client, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.png").write_text("not pixels")
    done = edict(*EDIT, photo, "--to", "limes", "--mask", "words.png")
    assert done.exit_code == 1
    assert "words.png is no image" in done.stderr
    assert "0 submitted, 1 refused" in done.stderr


def test_a_sampler_that_is_none_is_refused_with_the_choices(edict: Edict, photo: Path) -> None:
    done = edict(*EDIT, photo, "--to", "limes", "--sampler", "euler")
    assert done.exit_code == 2
    assert "'edict', 'bdia', 'o-belm', 'ddim' or 'sdedit'" in done.stderr
