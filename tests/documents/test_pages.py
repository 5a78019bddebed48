"""The blocks of each page, run in order by a reader with real servers and the tiny model."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.processes import Child
from jobs.settings import Settings
from producer.embedded.ports import free_ports
from tests.documents.blocks import PAGES, ROOT, blocks_of
from tests.documents.pages import GROUNDS, Ground
from tests.documents.stage import PATIENCE_SECONDS, Stage
from tests.pipeline import edict, environment_of, eventually
from tests.servers import S3Server

pytestmark = pytest.mark.slow

TINY_MODEL = str(Path(__file__).parents[1] / "reference" / "tiny-sd")


def is_run(page: Path) -> bool:
    return any(
        block.language in {"bash", "python"} and not block.excuse for block in blocks_of(page)
    )


@pytest.fixture(scope="module")
def services(
    sqlite_template: Path,
    redis_server: str,
    s3: S3Server,
    module_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """A deployment that all pages share: they name batches of their own, or do not mind."""
    folder = tmp_path_factory.mktemp("deployment")
    shutil.copyfile(sqlite_template, folder / "edict.db")
    settings = Settings(
        database_url=f"sqlite:///{folder / 'edict.db'}",
        redis_url=redis_server,
        s3_endpoint_url=s3.endpoint_url,
        s3_region=s3.region,
        s3_access_key_id=s3.access_key_id,
        s3_secret_access_key=s3.secret_access_key,
        s3_bucket=module_bucket,
        models=(TINY_MODEL,),
        dtype="float32",
        rungs=(2, 16),
        webhook_allow=("127.0.0.0/8",),
    )
    environment = environment_of(settings)
    log = folder / "worker.log"
    with ExitStack() as stack:
        for child in (
            edict("control", environment=environment, log=folder / "control.log"),
            edict("worker", "--devices", "cpu", environment=environment, log=log),
        ):
            stack.enter_context(child)
        eventually(lambda: "worker.ready" in log.read_text(), seconds=PATIENCE_SECONDS)
        yield settings


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the command line waits, loaded (see `warm`)."""
    folder = tmp_path_factory.mktemp("warm")
    command = [sys.executable, "-m", "tests.documents.warm", str(folder / "socket")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EDICT_")}
    log = folder / "log"
    with Child("warm", command, environment=environment, folder=ROOT, log=log) as child:
        child.wait_until((folder / "socket").exists, PATIENCE_SECONDS)
        yield folder / "socket"


@pytest.fixture
def stage(services: Settings, warm: Path, tmp_path: Path) -> Iterator[Stage]:
    [port] = free_ports(1)
    made = Stage(tmp_path, services, port, warm)
    yield made
    made.close()


@pytest.mark.parametrize("page", [*filter(is_run, PAGES)], ids=lambda page: page.name)
def test_what_the_page_says_can_be_done(page: Path, stage: Stage):
    # Given what the page takes for granted
    ground = GROUNDS.get(page.name, Ground())
    blocks = list(blocks_of(page))
    for block in blocks:
        if block.file:
            (stage.folder / block.file).write_text(block.text)
    if ground.before:
        stage.check(["bash", "-euo", "pipefail", "-c", ground.before], "", page.name)

    # When a reader does all that it says, Then nothing fails
    for block in blocks:
        if block.language in {"bash", "python"} and not block.excuse:
            stage.run(block, ground.texts, ground.prelude)
