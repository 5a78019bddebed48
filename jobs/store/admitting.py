"""Keys of the HTTP API, and the memory of what was answered to repeatable requests."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select, update

from jobs.access import NO_QUOTA, Answer, ApiKey, Quota, Scope, check_tenant, key_digest, new_key
from jobs.errors import InvalidInput, NotFound
from jobs.ids import new_id
from jobs.store.base import StorePart
from jobs.tables import api_answers, api_keys

REMEMBERED = timedelta(hours=24)
"""How long an answer is kept for repetitions."""

ABANDONED = timedelta(minutes=5)
"""After this time, a request without an answer died with its server, and may be made again."""

_NAME_CHARACTERS = 100


class Taken(Exception):
    """The name stands for another request, or for one that is being answered right now."""

    def __init__(self, *, same: bool) -> None:
        super().__init__("being answered" if same else "another request")
        self.same = same


class Admitting(StorePart):
    """Who may come in, and who has been here before."""

    def make_api_key(
        self,
        name: str,
        scope: Scope,
        *,
        expires_at: datetime | None = None,
        tenant: str | None = None,
        quota: Quota = NO_QUOTA,
    ) -> str:
        """Make a key and return it; it cannot be read again.

        Raises:
            InvalidInput: the name is taken, empty, too long, or holds what cannot be printed; or
                the tenant's is none.
        """
        if tenant is not None:
            check_tenant(tenant)
        if not (name.isprintable() and 0 < len(name) <= _NAME_CHARACTERS):
            raise InvalidInput(
                "name", f"must be 1 to {_NAME_CHARACTERS} printable characters (got {name!r:.120})"
            )
        key = new_key()
        entry = self._insert(api_keys).values(
            id=new_id(),
            name=name,
            digest=key_digest(key),
            scope=scope,
            created_at=self._clock(),
            expires_at=expires_at,
            tenant=tenant,
            **vars(quota),
        )
        with self._engine.begin() as connection:
            entry = entry.on_conflict_do_nothing(index_elements=["name"])
            if connection.execute(entry.returning(api_keys.c.id)).first() is None:
                raise InvalidInput(
                    "name", f"there is a key {name!r} already; names are never used twice"
                )
        return key

    def api_keys(self) -> list[ApiKey]:
        """All keys, those that open nothing any more included, oldest first."""
        with self._reader.connect() as connection:
            return [_key(row) for row in connection.execute(select(*_KEY).order_by(api_keys.c.id))]

    def api_key(self, secret: str) -> ApiKey | None:
        """The live key of this text; None where there is none."""
        statement = select(*_KEY).where(api_keys.c.digest == key_digest(secret))
        with self._reader.connect() as connection:
            row = connection.execute(statement).one_or_none()
        found = None if row is None else _key(row)
        return found if found is not None and found.is_live(self._clock()) else None

    def is_live_key(self, key_id: UUID) -> bool:
        """Whether the key of this id opens anything now."""
        statement = select(*_KEY).where(api_keys.c.id == key_id)
        with self._reader.connect() as connection:
            row = connection.execute(statement).one_or_none()
        return row is not None and _key(row).is_live(self._clock())

    def revoke_api_key(self, name: str) -> None:
        """Let a key open nothing from now on.

        Raises:
            NotFound: there is no key of that name.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            known = select(api_keys.c.id).where(api_keys.c.name == name)
            if connection.execute(known).first() is None:
                raise NotFound(f"there is no key {name!r}; `edict keys list` shows what there is")
            connection.execute(
                update(api_keys)
                .where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )

    def begin_answer(self, caller: str, name: str, fingerprint: str) -> Answer | None:
        """Note that a request is being answered; or what was answered to it before.

        Raises:
            Taken: the name stands for another request, or for one that is being answered.
        """
        now = self._clock()
        mine = (api_answers.c.caller == caller) & (api_answers.c.name == name)
        entry = self._insert(api_answers).values(
            caller=caller, name=name, fingerprint=fingerprint, created_at=now
        )
        entry = entry.on_conflict_do_nothing().returning(api_answers.c.name)
        forgotten = (api_answers.c.created_at < now - REMEMBERED) | (
            mine & api_answers.c.status.is_(None) & (api_answers.c.created_at < now - ABANDONED)
        )
        with self._engine.begin() as connection:
            connection.execute(delete(api_answers).where(forgotten))
            if connection.execute(entry).first() is not None:
                return None
            row = connection.execute(select(api_answers).where(mine)).one_or_none()
        if row is None:
            # It failed just now, and may be tried again.
            raise Taken(same=True)
        if row.fingerprint != fingerprint or row.status is None:
            raise Taken(same=row.fingerprint == fingerprint)
        return Answer(row.status, row.body, row.location, row.media_type)

    def end_answer(self, caller: str, name: str, answer: Answer | None) -> None:
        """Remember what was answered; None: nothing that a repetition should get again."""
        mine = (api_answers.c.caller == caller) & (api_answers.c.name == name)
        with self._engine.begin() as connection:
            if answer is None:
                connection.execute(delete(api_answers).where(mine))
            else:
                connection.execute(update(api_answers).where(mine).values(**vars(answer)))


_QUOTA = tuple(Quota.__dataclass_fields__)
_KEY = [
    api_keys.c[name]
    for name in ("id", "name", "scope", "created_at", "expires_at", "revoked_at", "tenant", *_QUOTA)
]


def _key(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    quota = Quota(**{name: values.pop(name) for name in _QUOTA})
    return ApiKey(**values | {"scope": Scope(values["scope"]), "quota": quota})
