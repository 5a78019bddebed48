"""One worker process, on one device: loads the model once, then does what Redis hints at.

The supervisor has confined this process to its device before torch was imported. Celery runs the
`threads` pool: task threads fetch, wait and upload, and the engine's own thread keeps the device
busy. Nothing forks once the device is up.
"""

import os
import secrets
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import structlog
import torch
import transformers
from celery import Celery, signals
from celery.platforms import SecurityWarning
from sqlalchemy.exc import SQLAlchemyError

from edict_engine.compiled import INDUCTOR
from edict_engine.editor import Editor
from edict_engine.engine import Engine
from edict_engine.lora import Adapter
from edict_engine.model import Model, load_model
from edict_engine.numerics import fastest_dtype
from edict_engine.probe import probe_rungs
from jobs.celery_app import make_app
from jobs.database import check_database, open_database
from jobs.errors import ConfigurationError
from jobs.messages import RUN_SHARD, Shard, queue_name
from jobs.model_names import split_name
from jobs.objects import ObjectStore
from jobs.records import Worker
from jobs.settings import Settings, parse_model
from jobs.store import JobStore
from jobs.store.base import utc_now
from worker.leases import LeaseKeeper
from worker.noise import NoiseFinder
from worker.perform import Performer
from worker.shard import ShardRunner
from worker.sources import SourceReader

JOB_THREADS = 32

_log = structlog.get_logger()


def run_process(settings: Settings, *, model: str, device: str, torch_device: str) -> int:
    """Work until told to stop; returns the exit status.

    `device` is the name that people see (`cuda:1`), `torch_device` what torch calls it here.

    Raises:
        EngineError: the model cannot be loaded.
        ConfigurationError: the database's URL is not one.
        ServiceUnavailable: the database does not answer.
    """
    loaded = _load(settings, model, torch_device)
    with ExitStack() as stack:
        database = open_database(
            settings.database_url.get_secret_value(), pool_size=settings.worker_shards + 2
        )
        stack.callback(database.dispose)
        check_database(database)
        store = JobStore(database, max_attempts=settings.max_attempts)
        worker = stack.enter_context(_registered(store, device, loaded))
        keeper = stack.enter_context(LeaseKeeper(store, worker.name, lease=settings.lease_seconds))
        engine = stack.enter_context(_engine(settings, loaded))
        pool = stack.enter_context(ThreadPoolExecutor(JOB_THREADS, thread_name_prefix="job"))
        runner = _runner(settings, store, keeper, Editor(loaded, engine), pool)
        _log.info(
            "worker.ready",
            worker=worker.name,
            model=loaded.name,
            revision=loaded.revision,
            rungs=engine.rungs,
        )
        return _consume(settings, worker, keeper, runner)


def _load(settings: Settings, model: str, torch_device: str) -> Model:
    if torch_device == "cpu":
        # Bits depend on the thread count: it is what the supervisor says, never torch's guess.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # Logs are read line by line; a bar that is drawn over and over is no line.
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = torch.device(torch_device)
    auto = settings.dtype == "auto"
    dtype: torch.dtype = fastest_dtype(device) if auto else getattr(torch, settings.dtype)
    compiles = settings.compile == "on" or (settings.compile == "auto" and device.type == "cuda")
    try:
        parts = split_name(model)
    except ValueError as error:
        raise ConfigurationError(f"--model {model!r} {error}") from None
    return load_model(
        parts.source,
        revision=parts.revision,
        device=device,
        dtype=dtype,
        adapters=[Adapter(each.source, each.scale, each.revision) for each in parts.adapters],
        # Jobs and queues know it by this name.
        name=parse_model(model)[0],
        vae_tile=settings.vae_tile_pixels,
        compiler=INDUCTOR if compiles else None,
    )


def _engine(settings: Settings, model: Model) -> Engine:
    """Find the batches that fit; with a compiler, this is where it runs."""
    shape = model.latent_shape(model.default_size, model.default_size)
    wanted = settings.rungs
    engine = Engine(model, rungs=wanted and (lambda: probe_rungs(model, shape, wanted)))
    for rows, reason in model.not_compiled.items():
        _log.warning("model.not_compiled", rows=rows, reason=reason)
    return engine


@contextmanager
def _registered(store: JobStore, device: str, model: Model) -> Iterator[Worker]:
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
    )
    store.register_worker(worker)
    try:
        yield worker
    finally:
        with suppress(SQLAlchemyError):
            store.remove_worker(worker.name)


def _runner(
    settings: Settings,
    store: JobStore,
    keeper: LeaseKeeper,
    editor: Editor,
    pool: ThreadPoolExecutor,
) -> ShardRunner:
    objects = ObjectStore.from_settings(settings)
    sources = SourceReader(
        objects,
        editor.model,
        max_bytes=settings.max_source_bytes,
        max_pixels=settings.max_source_pixels,
    )
    finder = NoiseFinder(objects, editor, sources)
    return ShardRunner(store, keeper, finder, Performer(objects, editor, sources), pool)


def _consume(settings: Settings, worker: Worker, keeper: LeaseKeeper, runner: ShardRunner) -> int:
    """Run Celery until it is told to stop, by a signal."""
    app = make_app(settings)
    _add_task(app, runner)
    # Celery warns of root because of pickle; nothing here accepts any.
    warnings.simplefilter("ignore", SecurityWarning)

    def stop_work(**_: object) -> None:
        # In a signal handler: only a flag is set here, and what runs gives itself back.
        keeper.stop_work()

    signals.worker_shutting_down.connect(stop_work)
    consumer = app.Worker(
        hostname=worker.name,
        queues=[queue_name(worker.model)],
        pool="threads",
        concurrency=settings.worker_shards,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    consumer.start()
    return int(consumer.exitcode or 0)


def _add_task(app: Celery, runner: ShardRunner) -> None:
    @app.task(name=RUN_SHARD)  # type: ignore[untyped-decorator]
    def run_shard(message: object) -> None:
        runner.run(Shard.model_validate(message).job_ids)


def exit_now(status: int) -> None:
    """End the process without waiting for threads that a broken device may hold for ever."""
    _log.info("worker.stopped", status=status, threads=threading.active_count())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
