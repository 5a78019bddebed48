"""A worker's parts in this process: a real store, a real bucket, a real (tiny) model."""

import io
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.model import Model, load_model
from jobs.database import open_database
from jobs.keys import sha256
from jobs.objects import ObjectStore
from jobs.processes import Child
from jobs.records import Job, Worker
from jobs.settings import Settings
from jobs.specs import (
    EditSpec,
    InversionSpec,
    ModelRef,
    ReconstructionSpec,
    SamplerOptions,
    Source,
    Spec,
)
from jobs.store import JobStore
from producer.client import Client
from producer.embedded.valkey import Valkey
from tests.pipeline import edict, environment_of, eventually, is_alive
from tests.servers import S3Server
from worker.health import DeviceHealth
from worker.isolation import Isolation
from worker.leases import LeaseKeeper
from worker.noise import NoiseFinder
from worker.perform import Performer
from worker.shard import ShardRunner
from worker.sources import SourceReader

TINY_MODEL = str(Path(__file__).parents[1] / "reference" / "tiny-sd")
FEW_STEPS = SamplerOptions(steps=4, strength=0.5)
DEVICES = 2
"""Of the pipeline that a module's tests share."""


def picture(seed: int = 0) -> bytes:
    """A small noisy PNG, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    return load_model(TINY_MODEL, dtype=torch.float32)


@pytest.fixture(scope="session")
def editor(tiny_model: Model) -> Iterator[Editor]:
    with Engine(tiny_model, rungs=(2, 8)) as engine:
        yield Editor(tiny_model, engine)


def settings_of(sqlite_url: str, redis_url: str, s3: S3Server, bucket: str) -> Settings:
    return Settings(
        database_url=sqlite_url,
        redis_url=redis_url,
        s3_endpoint_url=s3.endpoint_url,
        s3_region=s3.region,
        s3_access_key_id=s3.access_key_id,
        s3_secret_access_key=s3.secret_access_key,
        s3_bucket=bucket,
        models=(TINY_MODEL,),
        dtype="float32",
        rungs=(2, 8),
        lease_seconds=4,
        redeliver_seconds=1,
    )


@pytest.fixture
def settings(sqlite_url: str, redis_url: str, s3: S3Server, bucket: str) -> Settings:
    return settings_of(sqlite_url, redis_url, s3, bucket)


@dataclass
class Site:
    """Control and a supervisor of two devices, which a module's tests share."""

    client: Client
    control: Child
    supervisor: Child
    shards: int
    """Messages that each device process has in hand."""

    @property
    def store(self) -> JobStore:
        return self.client.store

    def start(self) -> None:
        """Start both processes."""
        self.control.start()
        self.supervisor.start()

    def workers(self) -> list[Worker]:
        """Both device processes, as soon as there are two that live."""
        if self.supervisor.pid is None:
            self.start()

        def live() -> list[Worker] | None:
            found = self.store.live_workers(seen_within=60)
            found = [worker for worker in found if is_alive(worker.pid)]
            return found if len(found) == DEVICES else None

        return eventually(live)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    s3: S3Server,
    module_bucket: str,
) -> Iterator[Site]:
    """A pipeline of its own. Starting torch takes longer than most of what is tested with it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copyfile(sqlite_template, folder / "edict.db")
    # A Redis of its own: tests beside it may start other workers.
    with Valkey(folder / "valkey") as redis:
        settings = settings_of(f"sqlite:///{folder}/edict.db", redis.url, s3, module_bucket)
        settings = settings.model_copy(update={"worker_shards": 2, "auxiliary_batch": 2})
        environment = environment_of(settings)

        def child(name: str, *arguments: str) -> Child:
            return edict(name, *arguments, environment=environment, log=folder / f"{name}.log")

        control = child("control")
        supervisor = child("worker", "--devices", ",".join(["cpu"] * DEVICES))
        with Client(settings) as client:
            try:
                yield Site(client, control, supervisor, settings.worker_shards)
            finally:
                supervisor.stop(60)
                control.stop(60)


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore.from_settings(settings)


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    engine = open_database(settings.database_url.get_secret_value())
    yield JobStore(engine)
    engine.dispose()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts `edict …`; everything started is stopped in the end."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str, alias: str | None = None, **changes: str) -> Child:
            log = tmp_path / f"{alias or name}.log"
            environment = environment_of(settings) | changes
            return stack.enter_context(edict(name, *arguments, environment=environment, log=log))

        yield start


@dataclass
class Bench:
    """A worker in this process, and short ways to give it work."""

    store: JobStore
    objects: ObjectStore
    editor: Editor
    keeper: LeaseKeeper
    runner: ShardRunner
    given_up: list[str] = field(default_factory=list)
    """Why the process would have given up its device."""

    def source(self, data: bytes, name: str = "image.png") -> Source:
        self.objects.put(f"sources/{name}", data, "image/png")
        return Source(uri=self.objects.uri(f"sources/{name}"), sha256=sha256(data))

    def spec(self, kind: type[Spec], **fields: Any) -> Spec:
        fields.setdefault("source", self.source(picture()))
        fields.setdefault("model", ModelRef(name=TINY_MODEL))
        return kind(sampler=FEW_STEPS, **fields)

    def inversion(self, **fields: Any) -> InversionSpec:
        return self.spec(InversionSpec, **fields)

    def reconstruction(self, **fields: Any) -> ReconstructionSpec:
        return self.spec(ReconstructionSpec, **fields)

    def edit(self, prompt: str = "a dog", **fields: Any) -> EditSpec:
        return self.spec(EditSpec, edit_prompt=prompt, **fields)

    def queued(self, *specs: Spec) -> list[Any]:
        """Submit and announce; a message would now name these jobs."""
        submissions = self.store.submit(specs)
        self.store.take_due(100)
        return [submission.job_id for submission in submissions]

    def run(self, *specs: Spec) -> list[Job]:
        """Submit, announce, run to the end, and read the rows."""
        job_ids = self.queued(*specs)
        self.runner.run(job_ids)
        return [self.store.job(job_id) for job_id in job_ids]


@pytest.fixture
def make_bench(
    store: JobStore, objects: ObjectStore, editor: Editor
) -> Iterator[Callable[..., Bench]]:
    """Makes workers that share the database, the bucket and the device."""
    with ThreadPoolExecutor(4) as uploads, ThreadPoolExecutor(8) as pool:

        def make(name: str = "worker", lease: float = 30.0) -> Bench:
            keeper = LeaseKeeper(store, name, lease=lease)
            sources = SourceReader(objects, editor.model, max_bytes=2**20, max_pixels=1_000_000)
            finder = NoiseFinder(objects, editor, sources, keeper.turns, uploads)
            performer = Performer(objects, editor, sources)
            given_up: list[str] = []
            health = DeviceHealth(given_up.append)
            runner = ShardRunner(store, keeper, finder, performer, pool, health, Isolation())
            return Bench(store, objects, editor, keeper, runner, given_up)

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
