"""The units: systemd takes them, their commands exist, and what hangs is started again."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer

from producer.cli.app import app

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path for path in FOLDER.iterdir() if path.suffix in {".service", ".timer"})
ANALYZE = shutil.which("systemd-analyze")
PROGRAM = "/opt/edict/bin/edict"
# Services that go on, as systemd reads them for an instance.
RUNNING = {
    path.name.replace("@.", "@3."): path.read_text().replace("%i", "3")
    for path in UNITS
    if PROGRAM in path.read_text()
}


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def command(text: str) -> list[str]:
    """The arguments of `edict`."""
    [line] = values(text, "ExecStart")
    program, *arguments = line.split()
    assert program == PROGRAM
    return arguments


@pytest.mark.skipif(ANALYZE is None, reason="no systemd on this machine")
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path):
    # The package is not where the units look for it.
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "edict" in line]


def test_there_is_a_unit_for_every_process_of_a_deployment():
    assert {command(text)[0] for text in RUNNING.values()} == {"control", "serve", "worker"}


@pytest.mark.parametrize("unit", RUNNING)
def test_its_command_and_options_are_the_programs(unit: str):
    name, *arguments = command(RUNNING[unit])
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)

    context = group.commands[name].make_context(name, arguments)

    if name == "serve":
        assert context.params["require_key"]


@pytest.mark.parametrize("unit", RUNNING)
def test_a_unit_wants_to_be_asked_at_the_port_where_it_answers(unit: str):
    arguments = command(RUNNING[unit])
    [option] = {"--port", "--metrics-port"} & set(arguments)
    port = arguments[arguments.index(option) + 1]
    short = unit.removeprefix("edict-").removesuffix(".service")

    [wants] = values(RUNNING[unit], "Wants")
    assert f"edict-health@{short}:{port}.timer" in wants.split()


@pytest.mark.parametrize("unit", RUNNING)
def test_a_unit_may_have_a_login_of_its_own(unit: str):
    assert values(RUNNING[unit], "EnvironmentFile") == [
        "/etc/edict/edict.env",
        "-/etc/edict/%p.env",
    ]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on this machine that gives this status to everything; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def look(instance: str, folder: Path) -> str:
    """What `edict-health@INSTANCE` asks of systemctl; it asks the process once, not for minutes."""
    done, systemctl = folder / "done", folder / "systemctl"
    done.touch()
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {done}\n')
    systemctl.chmod(0o755)
    [line] = values((FOLDER / "edict-health@.service").read_text(), "ExecStart")
    script = line.removeprefix("/bin/sh -c '").removesuffix("'").replace("%i", instance)
    # As systemd reads it.
    script = script.replace("$$", "$").replace("%%", "%")
    script = script.replace("--retry 6", "--retry 0").replace("systemctl", str(systemctl))
    subprocess.run(["/bin/sh", "-c", script], check=True)
    return done.read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize(
    ("status", "asked"), [(200, ""), (503, "try-restart edict-worker@3.service\n")]
)
def test_what_does_not_get_on_is_started_again(status: int, asked: str, tmp_path: Path):
    with answering(status) as port:
        assert look(f"worker@3:{port}", tmp_path) == asked


@pytest.mark.parametrize("instance", ["worker@all:941all", "worker@10:94110"])
def test_a_worker_whose_port_is_none_is_left_alone(instance: str, tmp_path: Path):
    assert look(instance, tmp_path) == ""
