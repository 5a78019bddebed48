"""Logs as processes write them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.logs import redact

WORK = """
import os, structlog
from jobs.logs import configure_logging
configure_logging()
log = structlog.get_logger()
for _ in range(20):
    log.info("a line", text="x" * 1000)
    log.warning("another", exc_info=ValueError("of an error"))
os._exit(7)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's device that is always full")
def test_a_full_disk_under_the_log_stops_no_work():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", WORK], stderr=full, check=False)

    assert done.returncode == 7


def test_a_line_is_json_with_its_event():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=False)

    assert done.stderr.startswith('{"text": "xxx')
    assert '"event": "a line"' in done.stderr
    assert '"event": "another"' in done.stderr


ERROR_OF_A_DRIVER = """
import structlog
from jobs.database import open_database
from jobs.logs import configure_logging
from jobs.store import JobStore
configure_logging()
try:
    JobStore(open_database("postgresql://edict:hunter2@127.0.0.1:1/x")).heartbeat("w", {}, lease=3)
except Exception as error:
    structlog.get_logger().warning("heartbeat.failed", exc_info=error)
"""


def test_a_traceback_holds_no_password_of_a_drivers_variables():
    command = [sys.executable, "-c", ERROR_OF_A_DRIVER]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert '"event": "heartbeat.failed"' in done.stderr
    assert '"exc_type": "OperationalError"' in done.stderr
    assert "hunter2" not in done.stderr


SECRETS = {
    "a URL's password": "postgresql://edict:hunter2@db/edict does not answer",
    "a password with a slash": "redis://:hunter2/x@host:6379/0",
    "a presigned URL": "GET https://b.s3/k?X-Amz-Credential=hunter2%2Fx&X-Amz-Signature=hunter2",
    "a connection string": "host=db password=hunter2 dbname=edict",
    "an API key": "key edict_hunter2" + "x" * 40,
    "a webhook's secret": "whsec_hunter2AAAA=",
    "a header": "Authorization: Bearer hunter2",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_no_secret_is_written_wherever_it_stands(text: str):
    for value in (text, [text], {"url": {"deep": (text,)}}):
        assert "hunter2" not in str(redact(value))


@pytest.mark.parametrize(
    "text",
    [
        "job 0199: the claim with token 3 is no longer valid",
        "s3://bucket/sources/a@2x.png",
        "https://example.com/a?size=64&prompt=secret garden",
        "a photo of a basic cat, token by token",
        "stable-diffusion-v1-5/stable-diffusion-v1-5@39593d5",
    ],
)
def test_what_is_no_secret_stays(text: str):
    assert redact(text) == text


OF_A_PROCESS = """
import threading, structlog
from jobs.logs import configure_logging, name_process
configure_logging()
name_process(worker="host/cpu:0/7", device="cpu:0")
log = structlog.get_logger()
thread = threading.Thread(target=lambda: log.info("job.claimed", job="j"))
thread.start(); thread.join()
try:
    raise ValueError("https://me:hunter2@host/")
except ValueError:
    log.exception("job.failed")
"""


def test_every_thread_s_lines_bear_the_process_and_no_traceback_a_secret():
    command = [sys.executable, "-c", OF_A_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    first, second = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["worker"], first["device"], first["job"]) == ("host/cpu:0/7", "cpu:0", "j")
    assert second["exception"][0]["exc_value"] == "https://***@host/"
