"""The whole pipeline on one machine: two servers, a control process and the workers.

Invariant: everything is started through `jobs.processes.Child`, so nothing outlives this process,
and everything started is known before the next is, so an interrupted start can be undone.

A home holds `edict.db`, the folders `valkey`, `seaweedfs` and `logs`, the lock `stack.lock`, and,
while a stack runs, `stack.json` with the settings that reach it (`jobs.settings` reads it). After a
SIGKILL a stale `stack.json` stays: its URLs lead nowhere, and the next stack replaces it.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from jobs.processes import Child, ProcessDidNotStart
from jobs.settings import STACK_FILE
from producer.embedded.errors import ServerDidNotStart
from producer.embedded.files import lock_file, make_private_folder, write_private
from producer.embedded.ports import LOOPBACK
from producer.embedded.seaweedfs import SeaweedFS
from producer.embedded.server import Server, check_child
from producer.embedded.valkey import Valkey

BUCKET = "edict"
WORKER_STOP_SECONDS = 40.0
"""Longer than the supervisor gives its device processes."""
CONTROL_STOP_SECONDS = 10.0


class EmbeddedStack:
    """Entering takes the home; the three steps of `start` then start everything, in order.

    `devices` are the worker's, one process each; `models` is the catalogue, of which the workers
    serve the first; `command` runs the command line. The steps are apart so that a command line
    can say what it is doing.
    """

    def __init__(
        self,
        home: Path,
        devices: Sequence[str] = ("cpu", "cpu"),
        models: Sequence[str] = ("demo",),
        *,
        command: Sequence[str] = (sys.executable, "-m", "producer.cli"),
    ) -> None:
        self.home = home
        self._devices = tuple(devices)
        # A folder is meant from where the user stands; workers and other shells stand elsewhere.
        self._models = [
            str(Path(model).resolve()) if Path(model).is_dir() else model for model in models
        ]
        self._command = tuple(command)
        self._lock: int | None = None
        self._servers: list[Server] = []
        self._processes: list[Child] = []

    def __enter__(self) -> Self:
        """Take the home.

        Raises:
            HomeInUse: another stack runs on it; names its process.
        """
        self.home = make_private_folder(self.home)
        self._lock = lock_file(self.home / "stack.lock")
        logs = make_private_folder(self.home / "logs")
        self.valkey = Valkey(self.home / "valkey", log=logs / "valkey.log")
        self.seaweedfs = SeaweedFS(self.home / "seaweedfs", log=logs / "seaweedfs.log")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything: `start_services`, `migrate`, `start_processes`."""
        self.start_services()
        self.migrate()
        self.start_processes()

    def start_services(self) -> None:
        """Start both servers, together, and make the bucket.

        Raises:
            ServerNotInstalled: a wheel is missing.
            ServerDidNotStart: one ended or was not ready in time.
            HomeInUse: a server of an earlier stack still runs.
        """
        together: tuple[Server, ...] = (self.valkey, self.seaweedfs)
        for server in together:
            self._servers.append(server)
            server.launch()
        for server in self._servers:
            server.wait_ready()
        self._make_bucket()

    def migrate(self) -> None:
        """Bring the database up to date, and publish the settings that reach this stack."""
        from migrations import upgrade

        upgrade(self.environment()["EDICT_DATABASE_URL"])
        published = {"pid": os.getpid(), "environment": self.environment()}
        write_private(self.home / STACK_FILE, json.dumps(published, indent=2) + "\n")

    def start_processes(self) -> None:
        """Start the control process and the workers.

        Raises:
            ServerDidNotStart: the command line's program is missing.
        """
        self._start_process("control")
        self._start_process("worker", "--devices", ",".join(self._devices))

    def environment(self) -> dict[str, str]:
        """The settings of the running stack, by the names that `jobs.settings` reads."""
        return {
            "EDICT_HOME": str(self.home),
            "EDICT_DATABASE_URL": f"sqlite:///{self.home / 'edict.db'}",
            "EDICT_REDIS_URL": self.valkey.url,
            "EDICT_S3_ENDPOINT_URL": self.seaweedfs.endpoint_url,
            "EDICT_S3_ACCESS_KEY_ID": self.seaweedfs.access_key_id,
            "EDICT_S3_SECRET_ACCESS_KEY": self.seaweedfs.secret_access_key,
            "EDICT_S3_BUCKET": BUCKET,
            "EDICT_S3_REGION": self.seaweedfs.region,
            "EDICT_MODELS": ",".join(self._models),
        }

    def check(self) -> None:
        """Make sure that everything started still runs; nothing is restarted here.

        Raises:
            ChildDied: names what ended, with the end of its log.
        """
        for server in self._servers:
            server.check()
        for process in self._processes:
            check_child(process)

    def stop(self) -> None:
        """Stop everything: workers first, so that they can finish what they hold.

        Interrupted, it kills what is left.
        """
        try:
            self._stop_in_order()
        finally:
            for process in self._processes:
                process.kill()
            for server in self._servers:
                server.kill()
            self._leave_home()

    def _stop_in_order(self) -> None:
        patience = {"worker": WORKER_STOP_SECONDS, "control": CONTROL_STOP_SECONDS}
        for process in reversed(self._processes):
            process.stop(patience[process.name])
        for server in reversed(self._servers):
            server.stop()

    def _leave_home(self) -> None:
        if self._lock is None:
            return
        (self.home / STACK_FILE).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
        self._servers, self._processes = [], []

    def _start_process(self, name: str, *arguments: str) -> None:
        process = Child(
            name,
            [*self._command, name, *arguments],
            log=self.home / "logs" / f"{name}.log",
            environment={**os.environ, **_without_proxy(os.environ), **self.environment()},
        )
        self._processes.append(process)
        try:
            process.start()
        except ProcessDidNotStart as error:
            raise ServerDidNotStart(str(error)) from None

    def _make_bucket(self) -> None:
        from jobs.objects import ObjectStore

        client = self.seaweedfs.client()
        try:
            ObjectStore(client, BUCKET).ensure_bucket()
        finally:
            client.close()


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    # Behind a company's proxy, requests to our own servers must not go there.
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    value = ",".join(filter(None, [exempt, LOOPBACK, "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}
