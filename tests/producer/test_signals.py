"""A process that is told to stop again and again still ends in order."""

import signal
import subprocess
import sys
import time

ENDS_SLOWLY = """
from producer.cli.signals import stop_on_signals
import sqlalchemy, celery
stop = stop_on_signals()
print("ready", flush=True)
stop.wait()
"""


def test_signals_that_come_while_python_ends_change_nothing():
    for _ in range(3):
        command = [sys.executable, "-c", ENDS_SLOWLY]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            while process.poll() is None:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.001)
        assert process.returncode == 0
