"""What an error means for its job."""

from itertools import pairwise

import pytest
import torch
from sqlalchemy.exc import OperationalError

from edict_engine.errors import OutOfMemory, PromptTooLong, UnreadableImage
from jobs.errors import AccessDenied, ObjectNotFound, ServiceUnavailable
from worker.failures import SourceChanged, SourceRefused, classify
from worker.retries import POLICIES, ErrorClass

PERMANENT, TRANSIENT, DEVICE, FAULT = ErrorClass


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (UnreadableImage("damaged"), "unreadable_image", PERMANENT),
        (PromptTooLong(90, 77), "prompt_too_long", PERMANENT),
        (SourceRefused("gone"), "source_refused", PERMANENT),
        (ObjectNotFound("our own bucket"), "object_not_found", TRANSIENT),
        (AccessDenied("keys are being changed"), "access_denied", TRANSIENT),
        (SourceChanged("other bytes"), "source_changed", PERMANENT),
        (ServiceUnavailable("away"), "service_unavailable", TRANSIENT),
        (torch.OutOfMemoryError("full"), "out_of_memory", DEVICE),
        (OutOfMemory(2, (4, 8, 8), pinned=False), "out_of_memory", DEVICE),
        (ZeroDivisionError("a fault of ours"), "internal_error", FAULT),
        (torch.AcceleratorError("a kernel failed"), "device_lost", DEVICE),
        (OperationalError("SELECT 1", {}, Exception("away")), "database", TRANSIENT),
    ],
)
def test_errors_have_a_stable_code_and_a_class(error: Exception, code: str, kind: ErrorClass):
    failure = classify(error)

    assert (failure.code, failure.kind) == (code, kind)
    assert failure.permanent == (kind is PERMANENT)
    assert failure.message


def test_an_error_without_words_is_named():
    assert classify(RuntimeError()).message == "RuntimeError"


@pytest.mark.parametrize("kind", POLICIES)
def test_tries_move_apart_up_to_a_limit_and_never_meet(kind: ErrorClass):
    policy = POLICIES[kind]
    delays = [[policy.delay(attempt) for _ in range(50)] for attempt in (1, 2, 3, 2_000)]

    assert all(max(early) <= 2 * min(late) for early, late in pairwise(delays))
    assert all(len(set(tries)) > 1 for tries in delays)
    assert max(max(tries) for tries in delays) <= policy.limit_seconds


def test_every_class_but_the_permanent_one_is_tried_again():
    assert set(POLICIES) == set(ErrorClass) - {PERMANENT}


def test_a_server_that_restarts_within_a_minute_costs_no_job():
    patient = POLICIES[TRANSIENT]

    assert patient.attempts
    # Every wait is at least half of its length.
    shortest = sum(min(2 * 2**n, patient.limit_seconds) / 2 for n in range(patient.attempts - 1))
    assert shortest > 60
