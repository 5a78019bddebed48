"""What an error means for its job."""

from itertools import pairwise

import pytest
import torch

from edict_engine.errors import OutOfMemory, PromptTooLong, UnreadableImage
from jobs.errors import AccessDenied, ObjectNotFound, ServiceUnavailable
from worker.failures import BACKOFF_LIMIT_SECONDS, SourceChanged, SourceRefused, backoff, classify


@pytest.mark.parametrize(
    ("error", "code", "permanent"),
    [
        (UnreadableImage("damaged"), "unreadable_image", True),
        (PromptTooLong(90, 77), "prompt_too_long", True),
        (SourceRefused("gone"), "source_refused", True),
        (ObjectNotFound("our own bucket"), "object_not_found", False),
        (AccessDenied("keys are being changed"), "access_denied", False),
        (SourceChanged("other bytes"), "source_changed", True),
        (ServiceUnavailable("away"), "service_unavailable", False),
        (torch.OutOfMemoryError("full"), "out_of_memory", False),
        (OutOfMemory(2, (4, 8, 8), pinned=False), "out_of_memory", False),
        (ZeroDivisionError("a fault of ours"), "internal_error", False),
    ],
)
def test_errors_have_a_stable_code_and_a_class(error: Exception, code: str, permanent: bool):
    failure = classify(error)

    assert (failure.code, failure.permanent) == (code, permanent)
    assert failure.message


def test_an_error_without_words_is_named():
    assert classify(RuntimeError()).message == "RuntimeError"


def test_tries_move_apart_up_to_a_limit_and_never_meet():
    delays = [[backoff(attempt) for _ in range(50)] for attempt in (1, 2, 3, 30)]

    assert all(max(early) <= 2 * min(late) for early, late in pairwise(delays))
    assert all(len(set(tries)) > 1 for tries in delays)
    assert max(max(tries) for tries in delays) <= BACKOFF_LIMIT_SECONDS
