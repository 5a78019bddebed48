"""The whole pipeline on one machine, every part of which can be broken and mended.

Each worker stands for a machine of its own: a supervisor with one CPU device on one core. What has
died of them is started again by `tend`, as a service manager would.
"""

import os
import re
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from redis import Redis
from sqlalchemy.exc import SQLAlchemyError

from jobs.database import open_database
from jobs.objects import ObjectStore
from jobs.processes import Child
from jobs.settings import Settings
from jobs.store import JobStore
from migrations import upgrade
from producer.embedded.seaweedfs import SeaweedFS
from producer.embedded.valkey import Valkey
from tests.faults.audit import install_audit
from tests.faults.proxy import FaultProxy
from tests.pipeline import environment_of, is_alive
from tests.servers import PostgresProcess

MODEL = str(Path(__file__).parents[1] / "reference" / "tiny-sd")
RUNG = 4
"""The only batch shape: then every worker gives the same bits, which can be foretold."""
LEASE_SECONDS = 4.0
BUCKET = "faults"

_CONFINED = """
import os, sys
core, *command = sys.argv[1:]
os.sched_setaffinity(0, {int(core)})
os.execv(command[0], command)
"""


class Deployment:
    """Servers, a control process and workers in a folder; entering starts the servers only.

    PostgreSQL keeps what it said it committed when it crashes. Workers reach S3 through `proxy`.
    """

    def __init__(
        self, folder: Path, *, workers: int = 2, max_attempts: int = 3, schema: str = "head"
    ) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        """In the environment of every process of ours, so that leaked ones are found."""
        self._max_attempts = max_attempts
        self._workers = workers
        self._schema = schema
        self._stack = ExitStack()
        self.supervisors: list[Child] = []
        self.controls: list[Child] = []
        self.seen: set[int] = set()
        """Every process that was ever started here."""

    def __enter__(self) -> Self:
        with self._stack:
            self.postgres = PostgresProcess(self.folder / "postgres", synchronous_commit="on")
            self._stack.callback(self.postgres.leave)
            self.postgres.start()
            self._stack.callback(self.postgres.stop)
            self.valkey = self._stack.enter_context(Valkey(self.folder / "valkey"))
            self.seaweedfs = self._stack.enter_context(SeaweedFS(self.folder / "seaweedfs"))
            self.proxy = self._stack.enter_context(FaultProxy(self.seaweedfs.ports["s3.port"]))
            self._make_database_and_bucket()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_processes()
        self._stack.close()

    def _make_database_and_bucket(self) -> None:
        database = f"faults_{uuid4().hex}"
        self.postgres.server.create(database)
        self.database_url = self.postgres.server.url(database)
        upgrade(self.database_url, self._schema)
        install_audit(self.database_url)
        with self.bucket() as objects:
            objects.ensure_bucket()

    @property
    def settings(self) -> Settings:
        """What the processes are started with."""
        return Settings(
            home=self.folder / self.mark,
            database_url=self.database_url,
            redis_url=self.valkey.url,
            s3_endpoint_url=self.proxy.url,
            s3_region=self.seaweedfs.region,
            s3_access_key_id=self.seaweedfs.access_key_id,
            s3_secret_access_key=self.seaweedfs.secret_access_key,
            s3_bucket=BUCKET,
            models=(MODEL,),
            dtype="float32",
            rungs=(RUNG,),
            lease_seconds=LEASE_SECONDS,
            redeliver_seconds=2.0,
            max_attempts=self._max_attempts,
        )

    @contextmanager
    def bucket(self) -> Iterator[ObjectStore]:
        """The bucket without the proxy, for looking at what is there."""
        direct = {"s3_endpoint_url": self.seaweedfs.endpoint_url}
        objects = ObjectStore.from_settings(self.settings.model_copy(update=direct))
        try:
            yield objects
        finally:
            objects.close()

    def redis(self) -> Redis:
        """A client of Redis; close it."""
        return Redis.from_url(self.valkey.url)

    def start_processes(self) -> None:
        """Start the control process and the workers."""
        self.controls = [self._child("control", "control")]
        cores = sorted(os.sched_getaffinity(0))
        self.supervisors = [
            self._child(
                f"worker-{at}",
                *("worker", "--devices", "cpu"),
                core=cores[at % len(cores)],
            )
            for at in range(self._workers)
        ]
        self.tend()

    def tend(self) -> int:
        """Start what has died; says how many."""
        dead = [child for child in (*self.controls, *self.supervisors) if not child.is_running]
        for child in dead:
            child.start()
        self.processes()
        return len(dead)

    def stop_processes(self) -> list[int | None]:
        """Stop control and workers as a service manager would; gives their exit statuses."""
        self.processes()
        children = [*self.supervisors, *self.controls]
        for child in children:
            child.terminate()
        statuses = [child.stop(40) for child in children]
        self.supervisors, self.controls = [], []
        return statuses

    def devices(self) -> list[int]:
        """The processes that hold a device, those that still load their model included."""
        return [pid for child in self.supervisors if child.pid for pid in children_of(child.pid)]

    def is_ready(self) -> bool:
        """Whether a device process of every worker lives, and has said so to the database.

        And whether all that a service manager would stop can be stopped in order by now.
        """
        if not all(map(takes_sigterm, (*self.controls, *self.supervisors))):
            return False
        engine = open_database(self.database_url)
        try:
            listed = JobStore(engine).live_workers(seen_within=LEASE_SECONDS)
        except SQLAlchemyError:
            return False  # the database is one of the things that break
        finally:
            engine.dispose()
        live = {worker.pid for worker in listed if is_alive(worker.pid)}
        return all(
            child.pid is not None and live.intersection(children_of(child.pid))
            for child in self.supervisors
        )

    def processes(self) -> list[int]:
        """Control, supervisors and devices."""
        ours = [child.pid for child in (*self.controls, *self.supervisors)]
        found = [pid for pid in ours if pid is not None] + self.devices()
        self.seen.update(found)
        return found

    def leaked(self) -> list[str]:
        """Command lines of the processes that carry our mark."""
        return [command for pid, command in marked(self.mark) if pid != os.getpid()]

    def _child(self, name: str, *arguments: str, core: int | None = None) -> Child:
        command = [sys.executable, "-m", "producer.cli", *arguments]
        if core is not None:
            command = [sys.executable, "-c", _CONFINED, str(core), *command]
        environment = {**os.environ, **environment_of(self.settings)}
        return Child(name, command, environment=environment, log=self.folder / f"{name}.log")


def takes_sigterm(child: Child) -> bool:
    """Whether the process has a handler; before that, while Python imports, it simply dies."""
    with suppress(OSError):
        status = Path(f"/proc/{child.pid}/status").read_text()
        [caught] = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
        return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))
    return False


def children_of(pid: int) -> list[int]:
    """The processes that this one started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def marked(mark: str) -> Sequence[tuple[int, str]]:
    """Living processes with the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append((int(folder.name), command))
    return found
