"""Settings by name, from one file."""

import os
from json import dumps
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.settings import Settings, load_settings
from producer.cli.profiles import Config, apply, read_config
from tests.producer.conftest import Edict

TEXT = """
[settings]
s3_region = "eu-central-1"
lease_seconds = 45

[profiles.staging]
s3_bucket = "staging"
models = ["demo", "other"]

[profiles.production]
s3_bucket = "production"
s3_region = "us-west-2"
"""


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the current folder; the variables that it sets are gone after the test."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"EDICT_{name.upper()}", "")
    for name in ("EDICT_PROFILE", "EDICT_CONFIG"):
        monkeypatch.setenv(name, "")
    path = Path("edict.toml")
    path.write_text(TEXT)
    return path


def test_a_profile_goes_before_what_all_share(file: Path):
    apply("production")
    found = load_settings()
    assert (found.s3_bucket, found.s3_region, found.lease_seconds) == (
        "production",
        "us-west-2",
        45,
    )


def test_without_a_profile_only_the_shared_settings_count(file: Path):
    apply(None)
    found = load_settings()
    assert (found.s3_bucket, found.s3_region) == ("", "eu-central-1")


def test_the_environment_goes_before_a_profile_that_it_names(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDICT_PROFILE", "staging")
    monkeypatch.setenv("EDICT_S3_BUCKET", "mine")
    apply(None)
    found = load_settings()
    assert (found.s3_bucket, found.models) == ("mine", ("demo", "other"))


def test_the_command_line_goes_before_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDICT_PROFILE", "staging")
    monkeypatch.setenv("EDICT_S3_BUCKET", "mine")
    apply("production")
    assert load_settings().s3_bucket == "production"
    # Those that this process starts choose the same.
    assert os.environ["EDICT_PROFILE"] == "production"


def test_a_wrong_name_says_which_there_are(edict: Edict, file: Path):
    shown = edict("--profile", "prod", "status")
    assert shown.exit_code == 2
    assert "production, staging" in shown.stderr
    file.unlink()
    assert "edict init" in edict("--profile", "prod", "status").stderr


def test_a_profile_reaches_the_command(edict: Edict, file: Path):
    file.write_text('[profiles.far]\ndatabase_url = "postgresql://u:hidden@127.0.0.1:1/x"\n')
    shown = edict("--profile", "far", "migrate")
    assert shown.exit_code == 1
    assert "127.0.0.1:1" in shown.stderr
    assert "hidden" not in shown.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[settings]\nbuckets = 'x'", "sets 'buckets', which is no setting"),
        ("[profiles.x]\ns3_bucket = {a = 1}", "s3_bucket is neither a text"),
        ("[profile.x]\ns3_bucket = 'a'", "has 'profile'; there are"),
        ("profiles = 3", "profiles is not a table"),
        ("[settings", "is not TOML"),
    ],
)
def test_a_damaged_file_is_named_with_its_fault(edict: Edict, file: Path, text: str, says: str):
    file.write_text(text)
    shown = edict("status")
    assert shown.exit_code == 2
    assert "edict.toml" in shown.stderr
    assert says in shown.stderr


def test_a_named_file_must_be_there(edict: Edict, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDICT_CONFIG", "elsewhere.toml")
    shown = edict("status")
    assert (shown.exit_code, "elsewhere.toml cannot be read" in shown.stderr) == (2, True)


def test_the_file_that_init_writes_sets_nothing_until_it_is_edited(edict: Edict, file: Path):
    file.unlink()
    assert edict("init").exit_code == 0
    assert read_config() == Config(file, {}, {"production": {}})
    text = file.read_text()
    # Each comment that is a setting becomes one that is read, with the value that it has anyway.
    lines = text.splitlines()
    ours = [f"#{name} = " for name in Settings.model_fields]
    start = lines.index("[settings]")
    end = lines.index("[profiles.production]")
    settings_part = lines[start:end]
    for each in ours:
        [index] = [at for at, line in enumerate(settings_part) if line.startswith(each)]
        settings_part[index] = settings_part[index][1:]
    file.write_text("\n".join(settings_part))
    assert len(read_config().settings) == len(Settings.model_fields)
    apply(None)
    assert load_settings() == Settings()
    assert os.environ["EDICT_LEASE_SECONDS"] == "30.0"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_comes_back_as_it_was_written(file: Path, value: str):
    file.write_text(f"[profiles.x]\ns3_bucket = {dumps(value, ensure_ascii=False)}\n", "utf-8")
    assert read_config().profile("x") == {"EDICT_S3_BUCKET": value}
