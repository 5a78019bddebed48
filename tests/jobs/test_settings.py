"""Settings: from the environment, from a running stack, or a sentence that says what is missing."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ConfigurationError
from jobs.settings import STACK_FILE, Settings, load_settings, parse_model, without_password

SECRET = "hunter2"


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A home in which an embedded stack runs."""
    environment = {
        "EDICT_DATABASE_URL": "sqlite:////stack.db",
        "EDICT_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:7000/0",
        "EDICT_S3_BUCKET": "edict",
        "EDICT_S3_SECRET_ACCESS_KEY": SECRET,
        "EDICT_FROM_ANOTHER_VERSION": "1",
    }
    published = {"pid": os.getpid(), "environment": environment}
    (tmp_path / STACK_FILE).write_text(json.dumps(published))
    return tmp_path


def test_the_file_of_a_stack_that_was_killed_is_not_believed(stack: Path) -> None:
    with subprocess.Popen(["true"]) as ended:  # noqa: S607
        ended.wait()
    published = json.loads((stack / STACK_FILE).read_text())
    (stack / STACK_FILE).write_text(json.dumps({**published, "pid": ended.pid}))

    with pytest.raises(ConfigurationError, match="no embedded stack runs"):
        load_settings(stack).require_services()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "HOME": str(tmp_path),
        "DATABASE_URL": "postgresql://localhost/edict",
        "MODELS": " /models/sd@v1 , demo,",
        "SOURCE_BUCKETS": "a,b",
        "LEASE_SECONDS": "12.5",
        "MAX_SOURCE_BYTES": "1000",
    }.items():
        monkeypatch.setenv(f"EDICT_{name}", value)

    settings = load_settings()

    assert settings.home == tmp_path
    assert settings.database_url.get_secret_value() == "postgresql://localhost/edict"
    assert settings.models == ("/models/sd@v1", "demo")
    assert settings.default_model == "/models/sd@v1"
    assert settings.source_buckets == ("a", "b")
    assert (settings.lease_seconds, settings.max_source_bytes) == (12.5, 1_000)


def test_a_variable_that_is_set_to_nothing_is_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("S3_ENDPOINT_URL", "SOURCE_BUCKETS", "MODELS", "S3_ACCESS_KEY_ID"):
        monkeypatch.setenv(f"EDICT_{name}", "")

    settings = load_settings(tmp_path)

    assert settings.s3_endpoint_url is settings.s3_access_key_id is None
    assert (settings.source_buckets, settings.models) == ((), ("demo",))


def test_a_running_stack_fills_in_what_the_environment_leaves_open(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_S3_BUCKET", "mine")

    settings = load_settings(stack).require_services()

    assert settings.database_url.get_secret_value() == "sqlite:////stack.db"
    assert settings.s3_bucket == "mine"
    assert settings.home == stack


def test_a_stack_is_not_mixed_with_another_database(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDICT_DATABASE_URL", "postgresql://production/edict")

    settings = load_settings(stack)

    with pytest.raises(ConfigurationError, match=r"^EDICT_REDIS_URL, EDICT_S3_BUCKET not set"):
        settings.require_services()


def test_missing_services_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(tmp_path).require_services()

    for part in ("EDICT_DATABASE_URL, EDICT_REDIS_URL, EDICT_S3_BUCKET", str(tmp_path), "edict up"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"environment": 5}', "{}"])
def test_a_damaged_stack_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / STACK_FILE).write_text(text)

    with pytest.raises(ConfigurationError, match=r"stack\.json is damaged"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDICT_LEASE_SECONDS", "0"),
        ("EDICT_LEASE_SECONDS", "inf"),
        ("EDICT_REDELIVER_SECONDS", "nan"),
        ("EDICT_MAX_ATTEMPTS", "none"),
        ("EDICT_MAX_SOURCE_BYTES", "-1"),
        ("EDICT_MODELS", ","),
        ("EDICT_WEBHOOK_ALLOW", "10.0.0.0/8,intranet"),
    ],
)
def test_a_value_out_of_its_domain_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        load_settings(tmp_path)


def test_settings_do_not_show_secrets(stack: Path) -> None:
    assert SECRET not in repr(load_settings(stack))


@given(
    st.sampled_from(["redis://", "postgresql+psycopg://", "sentinel://"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["host:5432/name", "[::1]:1/0", "host", "a@host/x"]),
)
def test_a_password_is_never_shown(scheme: str, text: str, rest: str) -> None:
    password = f"<{text}>"  # nothing else in a URL looks like it

    for url in (
        f"{scheme}user:{password}@{rest}",
        f"{scheme}:{password}@{rest}",
        f"{scheme}host/name?user=me&password={quote(password, safe='')}&x=1",
    ):
        shown = without_password(url)
        assert password not in shown
        assert quote(password, safe="") not in shown
        assert shown.startswith(scheme)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@host:6379/0", "redis://***@host:6379/0"),
        ("postgresql://me:p/a?s#s@host/db", "postgresql://***@host/db"),
        ("redis://:a@one:1;redis://:b@two:2", "redis://***@two:2"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql://h/db?sslpassword=p&sslmode=require",
         "postgresql://h/db?sslpassword=***&sslmode=require"),
        ("sqlite:////home/me/edict.db", "sqlite:////home/me/edict.db"),
        ("http://[broken", "http://[broken"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_url_without_its_password_still_says_where(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("demo", ("demo", None)),
        ("org/model@v1", ("org/model", "v1")),
        ("/models/me@home/sd", ("/models/me@home/sd", None)),
        ("/models/me@home/sd@v1", ("/models/me@home/sd", "v1")),
        ("a@b@c", ("a@b", "c")),
        ("demo@", ("demo@", None)),
        ("@demo", ("@demo", None)),
    ],
)
def test_a_model_name_may_pin_a_revision(name: str, parsed: tuple[str, str | None]) -> None:
    assert parse_model(name) == parsed


def test_defaults_need_no_environment() -> None:
    assert Settings().default_model == "demo"
