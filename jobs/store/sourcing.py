"""The images of manifests: what was read where, and which of them jobs could not read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select

from jobs.keys import sha256
from jobs.specs import Source
from jobs.states import State
from jobs.store.base import StorePart, chunks
from jobs.tables import batch_jobs, jobs, known_sources

SOURCE_REFUSED = "source_refused"
"""The error code of jobs whose image or mask was not there, or could not be read."""


@dataclass(frozen=True)
class KnownSource:
    """An image that was read before, and what its place said of it then."""

    mark: str
    source: Source


class Sourcing(StorePart):
    """What manifests ask for about their images."""

    def known_sources(self, places: Sequence[str]) -> dict[str, KnownSource]:
        """What was remembered of the images at these places."""
        by_digest = {sha256(place.encode()): place for place in places}
        known = select(known_sources).where(known_sources.c.place_digest.in_(list(by_digest)))
        with self._reader.connect() as connection:
            return {
                by_digest[row.place_digest]: KnownSource(
                    row.mark, Source(uri=row.uri, sha256=row.sha256)
                )
                for row in connection.execute(known)
            }

    def forget_sources(self, uris: Sequence[str]) -> None:
        """Images of ours at these addresses are to go: whoever has them uploads them anew."""
        with self._engine.begin() as connection:
            connection.execute(delete(known_sources).where(known_sources.c.uri.in_(uris)))

    def remember_sources(self, found: dict[str, KnownSource]) -> None:
        """Remember images by their places."""
        rows = [
            {
                "place_digest": sha256(place.encode()),
                "mark": known.mark,
                "uri": known.source.uri,
                "sha256": known.source.sha256,
            }
            for place, known in found.items()
        ]
        if not rows:
            return
        rows.sort(key=lambda row: row["place_digest"])
        statement = self._insert(known_sources)
        changed = {name: statement.excluded[name] for name in ("mark", "uri", "sha256")}
        with self._engine.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["place_digest"], set_=changed), rows
            )

    def refused_sources(self, batch_id: UUID) -> frozenset[str]:
        """The addresses of images and masks of the batch's jobs that failed for want of one."""
        members = select(batch_jobs.c.job_id).where(batch_jobs.c.batch_id == batch_id)
        refused = (
            jobs.c.id.in_(members),
            jobs.c.state == State.FAILED,
            jobs.c.error_code == SOURCE_REFUSED,
        )
        found: set[str | None] = set()
        with self._reader.connect() as connection:
            for field in ("source", "mask"):
                uri = jobs.c.spec[(field, "uri")].as_string()
                found.update(connection.scalars(select(uri).where(*refused).distinct()))
        return frozenset(uri for uri in found if uri is not None)

    def digests_of_places(self, uris: Sequence[str]) -> frozenset[str]:
        """The SHA-256 of every place whose image is remembered as one of these of ours."""
        found: set[str] = set()
        with self._reader.connect() as connection:
            for some in chunks(uris):
                places = select(known_sources.c.place_digest).where(known_sources.c.uri.in_(some))
                found.update(connection.scalars(places))
        return frozenset(found)
