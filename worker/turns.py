"""Whose turn it is to invert an image: this process's claims on inversions."""

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.records import Claim, InversionClaim, StoredInversion
from jobs.store import JobStore

_log = structlog.get_logger()


class InversionTurns:
    """Holds the inversions that one worker process computes; the heartbeat renews them."""

    def __init__(self, store: JobStore, worker: str, *, lease: float) -> None:
        self._store = store
        self._worker = worker
        self._lease = lease
        self._held: set[InversionClaim] = set()
        self._lock = threading.Lock()

    def take(
        self, key: str, claim: Claim, *, replacing: int | None = None
    ) -> InversionClaim | None:
        """Claim the inversion that `claim`'s job needs; None while somebody else has it.

        `replacing`: see `JobStore.claim_inversion`.
        """
        turn = self._store.claim_inversion(
            key,
            claim.spec.inversion_digest(),
            self._worker,
            lease=self._lease,
            # A job that was lost before runs alone, so its inversion does.
            alone=claim.losses > 0,
            replacing=replacing,
        )
        if turn is not None:
            with self._lock:
                self._held.add(turn)
        return turn

    def stored_token(self, key: str) -> int | None:
        """See `JobStore.stored_token`."""
        return self._store.stored_token(key)

    def stored(self, turn: InversionClaim, stored: StoredInversion) -> None:
        """The object is in the bucket: those who wait for it may go on."""
        self._drop(turn)
        try:
            if not self._store.inversion_stored(turn, stored):
                _log.warning("inversion.lost", key=turn.key, worker=self._worker)
        except SQLAlchemyError as error:
            # Its lease runs out, and whoever has the turn next finds the object.
            _log.warning("inversion.unrecorded", key=turn.key, reason=str(error))

    def abandon(self, turn: InversionClaim) -> None:
        """It will not be computed here: those who wait may try for themselves."""
        self._drop(turn)
        try:
            self._store.abandon_inversion(turn)
        except Exception as error:
            # Its lease runs out. What went wrong before is what the jobs' rows should tell.
            _log.warning("inversion.unreturned", key=turn.key, reason=str(error))

    def renew(self) -> None:
        """Prolong all claims."""
        with self._lock:
            held = list(self._held)
        if held:
            self._store.renew_inversions(held, lease=self._lease)

    def _drop(self, turn: InversionClaim) -> None:
        with self._lock:
            self._held.discard(turn)
