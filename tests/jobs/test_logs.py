"""Logs as processes write them."""

import subprocess
import sys
from pathlib import Path

import pytest

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
