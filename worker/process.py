"""One worker process, on one device: loads the model once, then does what Redis hints at.

The supervisor has confined this process to its device before torch was imported. Celery runs the
`threads` pool: task threads fetch, wait and upload, and the engine's own thread keeps the device
busy. Nothing forks once the device is up.
"""

import os
import secrets
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import structlog
import torch
import transformers
from celery import Celery, Task
from celery.platforms import SecurityWarning
from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from edict_engine.compiled import INDUCTOR
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.model import Model, load_model
from edict_engine.numerics import fastest_dtype
from edict_engine.probe import probe_rungs
from jobs.celery_app import check_broker, make_app
from jobs.database import open_database
from jobs.errors import ConfigurationError, InvalidInput
from jobs.lanes import INTERACTIVE_PRIORITY, Lane
from jobs.logs import name_process
from jobs.messages import RUN_SHARD, Shard, queue_name
from jobs.objects import ObjectStore
from jobs.previews import Previews
from jobs.records import Worker
from jobs.services import check_tables, wait_for_services
from jobs.settings import Settings, parse_model
from jobs.store import JobStore
from jobs.store.base import utc_now
from jobs.tracing import HEADER, span
from worker.express import Express
from worker.health import DeviceHealth
from worker.isolation import Isolation
from worker.leases import LeaseKeeper
from worker.metrics import DeviceSampler
from worker.models import sources_of
from worker.noise import NoiseFinder
from worker.perform import Performer
from worker.previews import Previewer
from worker.shard import ShardRunner
from worker.sources import SourceReader
from worker.stopping import give_up_device, stop_on_signals

JOB_THREADS = 32
UPLOAD_THREADS = 4
"""For latents, which are stored while their edits begin."""
SETTLE_SECONDS = 0.1
"""An idle device waits so long for more: images come from the queue one after the other."""

_log = structlog.get_logger()


def run_process(settings: Settings, *, model: str, device: str, torch_device: str) -> int:
    """Work until told to stop; returns the exit status.

    `device` is the name that people see (`cuda:1`), `torch_device` what torch calls it here.

    Raises:
        EngineError: the model cannot be loaded.
        ConfigurationError: the URL of a service is not one.
    """
    with ExitStack() as stack:
        database = open_database(
            settings.database_url.get_secret_value(), pool_size=settings.worker_shards + 2
        )
        stack.callback(database.dispose)
        objects = ObjectStore.from_settings(settings)
        stack.callback(objects.close)
        app = make_app(settings)
        _wait_for_services(database, app, objects)
        loaded = _load(settings, model, torch_device)
        store = JobStore(database, max_attempts=settings.max_attempts)
        engine = stack.enter_context(_engine(settings, loaded))
        stack.enter_context(DeviceSampler(engine, device, loaded.device))
        worker = stack.enter_context(_registered(store, device, loaded, engine.rungs))
        name_process(worker=worker.name, device=device)
        lease = settings.lease_seconds
        keeper = stack.enter_context(
            LeaseKeeper(store, worker.name, lease=lease, models=worker.labels)
        )
        runners = _runners(stack, settings, store, objects, keeper, Editor(loaded, engine), app)
        _log.info(
            "worker.ready",
            model=loaded.name,
            revision=loaded.revision,
            rungs=engine.rungs,
        )
        return _consume(app, settings, worker, keeper, runners)


def _wait_for_services(database: Database, app: Celery, objects: ObjectStore) -> None:
    """Touch nothing, the device included, before all that it takes is there."""
    checks = {
        "database": lambda: check_tables(database),
        "redis": lambda: check_broker(app),
        "bucket": objects.check,
    }
    # Told to stop meanwhile, the process simply dies: it holds nothing yet.
    wait_for_services(checks, threading.Event())


def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=name)


def _load(settings: Settings, model: str, torch_device: str) -> Model:
    if torch_device == "cpu":
        # Bits depend on the thread count: it is what the supervisor says, never torch's guess.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # Logs are read line by line; a bar that is drawn over and over is no line.
    transformers.utils.logging.disable_progress_bar()
    device = torch.device(torch_device)
    auto = settings.dtype == "auto"
    dtype: torch.dtype = fastest_dtype(device) if auto else getattr(torch, settings.dtype)
    compiles = settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")
    try:
        named = sources_of(model)
    except ValueError as error:
        raise ConfigurationError(f"--model {model!r} {error}") from None
    return load_model(
        named.source,
        revision=named.revision,
        device=device,
        dtype=dtype,
        adapters=named.adapters,
        # Jobs and queues know it by this name.
        name=parse_model(model)[0],
        vae_tile=settings.vae_tile_pixels,
        auxiliary_batch=settings.auxiliary_batch,
        compiler=INDUCTOR if compiles else None,
    )


def _engine(settings: Settings, model: Model) -> Engine:
    """Find the batches that fit; with a compiler, this is where it runs."""
    shape = model.latent_shape(model.default_size, model.default_size)
    wanted = settings.rungs
    rungs = wanted and (lambda: probe_rungs(model, shape, wanted))
    settle = SETTLE_SECONDS if wanted is None or len(wanted) > 1 else 0.0
    engine = Engine(model, rungs=rungs, express=INTERACTIVE_PRIORITY, settle=settle)
    for rows, reason in model.not_compiled.items():
        _log.warning("model.not_compiled", rows=rows, reason=reason)
    return engine


@contextmanager
def _registered(
    store: JobStore, device: str, model: Model, rungs: Sequence[int]
) -> Iterator[Worker]:
    """Enter this process in the list of workers for as long as it lives."""
    host, pid = socket.gethostname(), os.getpid()
    worker = Worker(
        # The random part tells a restarted process from its predecessor, whose leases are not ours.
        name=f"{host}/{device}/{pid}-{secrets.token_hex(3)}",
        host=host,
        pid=pid,
        device=device,
        model=model.name,
        model_revision=model.revision,
        started_at=utc_now(),
        seen_at=utc_now(),
        lanes=_lanes(rungs),
    )
    store.register_worker(worker)
    try:
        yield worker
    finally:
        with suppress(SQLAlchemyError):
            store.remove_worker(worker.name)


def _lanes(rungs: Sequence[int]) -> int:
    """Images that are edited at once: a guided one takes two rows."""
    return max(max(rungs) // 2, 1)


def _runners(
    stack: ExitStack,
    settings: Settings,
    store: JobStore,
    objects: ObjectStore,
    keeper: LeaseKeeper,
    editor: Editor,
    app: Celery,
) -> dict[Lane, ShardRunner]:
    """What runs each lane's shards; they share all but their threads."""
    sources = _sources(settings, objects, editor.model)
    uploads = stack.enter_context(_pool(UPLOAD_THREADS, "upload"))
    finder = NoiseFinder(objects, editor, sources, keeper.turns, uploads)
    previewer = stack.enter_context(Previewer(Previews(app), editor))
    performer = Performer(objects, editor, sources, previewer)
    health = DeviceHealth(partial(give_up_device, keeper))
    isolation = Isolation()

    def runner(lane: Lane) -> ShardRunner:
        # A pool for each: an interactive job must not wait for a thread that bulk ones hold.
        pool = stack.enter_context(_pool(JOB_THREADS, f"job-{lane}"))
        urgent = lane is Lane.INTERACTIVE
        return ShardRunner(store, keeper, finder, performer, pool, health, isolation, urgent=urgent)

    return {lane: runner(lane) for lane in Lane}


def _sources(settings: Settings, objects: ObjectStore, model: Model) -> SourceReader:
    return SourceReader(
        objects,
        model,
        max_bytes=settings.max_source_bytes,
        max_pixels=settings.max_source_pixels,
    )


def _consume(
    app: Celery,
    settings: Settings,
    worker: Worker,
    keeper: LeaseKeeper,
    runners: Mapping[Lane, ShardRunner],
) -> int:
    """Run Celery until it is told to stop; see `worker.stopping`."""
    _add_task(app, runners[Lane.BULK])
    express = Express(
        app,
        [queue_name(label, Lane.INTERACTIVE) for label in worker.labels],
        runners[Lane.INTERACTIVE].run,
        slots=settings.worker_shards,
    )
    stop_on_signals(keeper, settings.stop_grace_seconds, express.stop_taking)
    # Celery warns of root because of pickle; nothing here accepts any.
    warnings.simplefilter("ignore", SecurityWarning)
    consumer = app.Worker(
        hostname=worker.name,
        queues=[queue_name(label, Lane.BULK) for label in worker.labels],
        pool="threads",
        concurrency=settings.worker_shards,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    with express:
        consumer.start()
    return int(consumer.exitcode or 0)


def _add_task(app: Celery, runner: ShardRunner) -> None:
    @app.task(name=RUN_SHARD, bind=True)  # type: ignore[untyped-decorator]
    def run_shard(task: Task, message: object) -> None:
        try:
            job_ids, trace = Shard.parse(message).job_ids, task.request.get(HEADER)
        except InvalidInput as error:
            _log.warning("message.refused", reason=str(error))
            return
        with span("shard", kind="consumer", parent=trace, jobs=len(job_ids)):
            runner.run(job_ids)
