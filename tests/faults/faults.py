"""The ways to break a deployment. Each breaks one thing, and mends what does not mend itself.

`PROCESSES` are the faults of our own processes, `SERVICES` those of what they stand on: one of each
may be on at once. What a fault needs of chance comes from its `Random`.
"""

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from random import Random

from jobs.processes import Child
from tests.faults.deployment import LEASE_SECONDS, Deployment, children_of
from tests.faults.proxy import Mode

OUTAGE_SECONDS = 2.0
FROZEN_SECONDS = 2 * LEASE_SECONDS
COPIES = 5

Fault = Callable[[Deployment, Random], None]


def kill_a_device(deployment: Deployment, chance: Random) -> None:
    """SIGKILL a device process; its supervisor starts the next."""
    if devices := deployment.devices():
        _signal(chance.choice(devices), signal.SIGKILL)


def kill_a_machine(deployment: Deployment, chance: Random) -> None:
    """SIGKILL a supervisor and its device process at once, as a power cut would."""
    supervisor = chance.choice(deployment.supervisors)
    devices = set(deployment.devices())
    if supervisor.pid is None:
        return
    # The device first: it would hear of its parent's death, and hand its jobs back in order.
    for pid in [*(devices & set(children_of(supervisor.pid))), supervisor.pid]:
        _signal(pid, signal.SIGKILL)


def freeze_a_device(deployment: Deployment, chance: Random) -> None:
    """Stop a device process until its leases are long over, then let it go on."""
    if not (devices := deployment.devices()):
        return
    pid = chance.choice(devices)
    _signal(pid, signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    _signal(pid, signal.SIGCONT)


def fill_a_disk(deployment: Deployment, chance: Random) -> None:
    """Leave a machine no room for a while: no log line and no temporary file can be written."""
    supervisor = chance.choice(deployment.supervisors)
    set_room(supervisor, 0)
    time.sleep(OUTAGE_SECONDS)
    set_room(supervisor, resource.RLIM_INFINITY)


def set_room(supervisor: Child, size: int) -> None:
    """Limit the files that a worker's processes may write, from now on, to `size` bytes.

    The nearest to a full disk that needs no privilege: writing fails, with another number.
    """
    if supervisor.pid is None:
        return
    for pid in (supervisor.pid, *children_of(supervisor.pid)):
        with suppress(ProcessLookupError):
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))


def kill_control(deployment: Deployment, _: Random) -> None:
    """SIGKILL the control process."""
    for control in deployment.controls:
        control.kill()


def restart_redis(deployment: Deployment, _: Random) -> None:
    """SIGKILL Redis; it comes back with what its append-only file kept."""
    deployment.valkey.kill()
    time.sleep(OUTAGE_SECONDS)
    deployment.valkey.start()


def empty_redis(deployment: Deployment, _: Random) -> None:
    """Take every message away."""
    with closing(deployment.redis()) as redis:
        redis.flushall()


def lose_redis(deployment: Deployment, chance: Random) -> None:
    """SIGKILL Redis; it comes back empty."""
    restart_redis(deployment, chance)
    empty_redis(deployment, chance)


def repeat_messages(deployment: Deployment, _: Random) -> None:
    """Deliver every waiting message five times."""
    queues = _queues(deployment)
    with closing(deployment.redis()) as redis:
        for queue in queues:
            for message in redis.lrange(queue, 0, -1):
                redis.rpush(queue, *[message] * (COPIES - 1))


def restart_postgres(deployment: Deployment, _: Random) -> None:
    """Restart the database in order, under its clients."""
    deployment.postgres.stop()
    time.sleep(OUTAGE_SECONDS / 2)
    deployment.postgres.start()


def crash_postgres(deployment: Deployment, _: Random) -> None:
    """Let the database crash: it recovers from its log."""
    deployment.postgres.crash()
    deployment.postgres.start()


def restart_s3(deployment: Deployment, _: Random) -> None:
    """SIGKILL the object store, and start it again."""
    deployment.seaweedfs.kill()
    time.sleep(OUTAGE_SECONDS)
    deployment.seaweedfs.start()


def refuse_s3(deployment: Deployment, _: Random) -> None:
    """Have the object store answer 503."""
    _proxied(deployment, Mode.REFUSE)


def slow_s3(deployment: Deployment, _: Random) -> None:
    """Have the object store take its time."""
    _proxied(deployment, Mode.SLOW)


def cut_s3(deployment: Deployment, _: Random) -> None:
    """Have the object store hang up in the middle of its answers."""
    _proxied(deployment, Mode.CUT)


def _proxied(deployment: Deployment, mode: Mode) -> None:
    deployment.proxy.mode = mode
    time.sleep(OUTAGE_SECONDS)
    deployment.proxy.mode = Mode.PASS


def _queues(deployment: Deployment) -> list[str]:
    """Every list of waiting messages, whatever it is called."""
    with closing(deployment.redis()) as redis:
        names = [name.decode() for name in redis.keys("edict.*")]
        return [name for name in names if redis.type(name) == b"list"]


def waiting_messages(deployment: Deployment) -> int:
    """How many messages wait in all queues."""
    with closing(deployment.redis()) as redis:
        return sum(int(redis.llen(queue)) for queue in _queues(deployment))


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


PROCESSES: tuple[Fault, ...] = (
    kill_a_device,
    kill_a_machine,
    freeze_a_device,
    fill_a_disk,
    kill_control,
)
SERVICES: tuple[Fault, ...] = (
    restart_redis,
    empty_redis,
    lose_redis,
    repeat_messages,
    restart_postgres,
    crash_postgres,
    restart_s3,
    refuse_s3,
    slow_s3,
    cut_s3,
)
