"""Tracing while it is off, and what it makes of contexts that are none."""

import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import tracing
from jobs.errors import ConfigurationError
from jobs.settings import load_settings
from producer.embedded.ports import LOOPBACK, free_ports


def test_nothing_is_made_while_it_is_off():
    assert tracing.span("one") is tracing.span("another", parent="00-1-1-1", jobs=3)
    assert tracing.traceparent() is None
    tracing.note("name", more=1)
    tracing.fail("code")
    tracing.stop_tracing()


WHAT_PRODUCERS_IMPORT = """
import sys
from jobs.settings import load_settings
from jobs.tracing import start_tracing
import producer.client, producer.control.process
start_tracing(load_settings(), "client")
# (redis-py imports the SDK's metrics by itself, where they are installed.)
for name in ("jobs.telemetry", "opentelemetry.sdk.trace", "opentelemetry.exporter"):
    assert name not in sys.modules, name
"""


def test_nothing_that_traces_is_imported_while_it_is_off():
    subprocess.run([sys.executable, "-c", WHAT_PRODUCERS_IMPORT], check=True)


WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry.sdk"] = None
from jobs.settings import load_settings
from jobs.tracing import start_tracing
start_tracing(load_settings(), "client")
"""


def traced(program: str, endpoint: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"EDICT_TRACING_ENDPOINT": endpoint, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_extra_it_says_what_to_install():
    done = traced(WITHOUT_THE_EXTRA, "http://localhost:4318")

    assert "ConfigurationError" in done.stderr
    assert "pip install 'edict[tracing]'" in done.stderr


WORK = """
import json, time
from jobs.logs import configure_logging
from jobs.settings import load_settings
from jobs.tracing import span, start_tracing
configure_logging()
start_tracing(load_settings(), "client")
start = time.monotonic()
with span("work"):
    pass
print(time.monotonic() - start)
"""


def test_a_collector_that_is_away_holds_up_no_work_and_no_end():
    [port] = free_ports(1)
    start = time.monotonic()

    done = traced(WORK, f"http://{LOOPBACK}:{port}")

    assert done.returncode == 0
    assert float(done.stdout) < 1
    assert '"event": "tracing.failed"' in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "http://me:hunter2@collector:4318", "ftp://collector", "http://"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDICT_TRACING_ENDPOINT", endpoint)

    with pytest.raises(ConfigurationError, match=r"EDICT_TRACING_ENDPOINT.*is not of the form"):
        load_settings()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(parent=JSON)
def test_a_forged_context_is_none(parent: Any):
    from opentelemetry import trace

    from jobs.telemetry import _context

    found = trace.get_current_span(_context(parent)).get_span_context()

    assert not found.is_valid


@settings(max_examples=50, deadline=None)
@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.sampled_from([0, 1]),
)
def test_a_context_is_what_it_was(trace_id: int, span_id: int, flags: int):
    from opentelemetry import trace

    from jobs.telemetry import _context

    text = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    found = trace.get_current_span(_context(text)).get_span_context()

    assert (found.trace_id, found.span_id, found.trace_flags) == (trace_id, span_id, flags)
