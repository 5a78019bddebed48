"""`edict open`, `edict init` and `edict gallery`."""

import webbrowser
from pathlib import Path

import pytest

from jobs.marks import Verdict
from jobs.settings import Settings
from producer.client import Client
from tests.producer.api.conftest import serving
from tests.producer.conftest import Edict, Finish, png


def test_the_dashboard_is_opened(
    edict: Edict, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    with serving(client, keyless=True) as url:
        assert edict("open", "my/fruit", "--url", url).exit_code == 0
        assert edict("open", "--url", url).stdout.strip() == f"{url}/"
    assert opened == [f"{url}/batches/my%2Ffruit", f"{url}/"]
    gone = edict("open", "--url", url)
    assert gone.exit_code == 1
    assert "edict serve" in gone.stderr
    assert edict("open", "--url", "file:///etc/passwd").exit_code == 2


def test_a_file_of_all_settings_is_written_once(edict: Edict) -> None:
    assert edict("init", "edict.env").exit_code == 0

    text = Path("edict.env").read_text()
    assert all(f"\n#EDICT_{name.upper()}=" in text for name in Settings.model_fields)
    assert "# The catalogue: model folders or hub ids" in text
    assert all(line.startswith("#") or not line for line in text.splitlines())
    assert Path("edict.env").stat().st_mode & 0o077 == 0
    assert edict("init", "edict.env").exit_code == 2
    assert edict("init", "edict.yaml").exit_code == 2


def test_a_batch_is_written_as_one_file(
    edict: Edict, client: Client, finish: Finish, photo: Path
) -> None:
    edict("submit", "edit", photo, "--from", "a photo", "--to", "limes", "--to", "pears",
          "--batch", "fruit")  # fmt: skip
    assert edict("gallery", "fruit", "--out", "page.html").exit_code == 2
    finish("fruit", png())
    edict("gallery", "fruit", "--out", "page.html")
    assert Path("page.html").read_text().count("<figure") == 3
    [first, _] = client.store.jobs_of(client.store.batch("fruit").id)
    client.store.mark(first.id, Verdict.APPROVED, "somebody")
    edict("gallery", "fruit", "--out", "chosen.html", "--approved")
    assert Path("chosen.html").read_text().count("<figure") == 2
