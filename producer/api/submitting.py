"""From what is asked for to submitted jobs.

Images come with the request or lie where the deployment allows: in its buckets, on its hosts, in
its folders (see `producer.fetching` and `producer.paths`). In our own bucket lie everybody's images
and results: a tenant reads only what it uploaded.

Bytes are counted for the key before they are stored, once each, and stay counted if the submission
is then refused: those of an address for an upload when it is asked for, others when they are copied
into the bucket. What is read where it lies in a bucket is not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from jobs.access import NO_QUOTA
from jobs.errors import AccessDenied, InvalidInput, NotFound
from jobs.records import Submission
from jobs.specs import Source, Spec
from jobs.store.auditing import OverQuota, Submitter
from producer.admission import Row, admit
from producer.api.access import Caller
from producer.api.problems import FieldProblem, Refused, refused_rows, renamed
from producer.api.seen import Seen
from producer.api.wishes import Asked, BatchWish, Order, RowWish, Upload
from producer.bulk import BulkOptions, Plan, open_manifest, run_bulk
from producer.bulk.run import Report
from producer.fetching import fetch, shown_source
from producer.paths import read_below

UPLOADS = "uploads"
"""Prefix in our bucket of what was uploaded by presigned addresses, then the tenant's name."""

_NOBODY = "-"
_WORDS = {
    "max_live": "jobs that have not ended",
    "max_jobs": "jobs in 24 hours",
    "max_bytes": "bytes of images in 24 hours",
}


def upload_prefix(tenant: str | None) -> str:
    """Where a tenant's uploads lie in our bucket."""
    return f"{UPLOADS}/{tenant or _NOBODY}/"


@dataclass(frozen=True)
class _ApiDoor:
    """The door for those who ask over the network."""

    seen: Seen
    count: Callable[[int], None]
    """Told of the bytes that are about to be stored in the bucket."""
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def admit(self, where: str) -> Source:
        """Check the image and give it its place.

        Raises:
            InvalidInput: it is not there, may not be read, or is no image that we take.
            Refused: it is too much for the key.
            ServiceUnavailable: the object store does not answer.
        """
        try:
            return self._admitted(where)
        except (NotFound, AccessDenied) as error:
            raise InvalidInput("source", error.public) from None

    def _admitted(self, where: str) -> Source:
        door = self.seen.client.sources
        if where in self.uploads:
            upload = self.uploads[where]
            return self._copied(upload.data, upload.name)
        settings = self.seen.client.settings
        limit = settings.max_source_bytes
        if where.startswith("https://"):
            data = fetch(where, settings.source_hosts, max_bytes=limit)
            return self._copied(data, shown_source(where))
        if where.startswith("/"):
            return self._copied(read_below(where, settings.source_roots, max_bytes=limit), where)
        objects = self.seen.client.objects
        bucket, key = objects.locate(where)
        if bucket != objects.bucket or not key.startswith(f"{UPLOADS}/"):
            self._check_whose(bucket, key, where)
            return door.admit(where)
        self._check_whose(bucket, key, where)
        # Its address may still be written to: a job's image stays what it is.
        return door.upload(objects.read(where, max_bytes=limit), where)

    def _copied(self, data: bytes, name: str) -> Source:
        self.count(len(data))
        return self.seen.client.sources.upload(data, name)

    def _check_whose(self, bucket: str, key: str, where: str) -> None:
        if self.seen.tenant is None or bucket != self.seen.client.objects.bucket:
            return
        # Some servers read `..` in a key as a file system does.
        tricky = not {"", ".", ".."}.isdisjoint(key.split("/"))
        if tricky or not key.startswith(upload_prefix(self.seen.tenant)):
            problem = f"{where!r:.100} is not yours to read; upload the image, see /v1/uploads"
            raise InvalidInput("source", problem)


def submit_job(seen: Seen, asked: Asked) -> Submission:
    """Check one job and submit it.

    Raises:
        InvalidInput, Refused: name the field.
    """
    wish, client = asked.wish, seen.client
    with audited(seen, jobs=1) as audit:
        door = _ApiDoor(seen, audit.count, asked.uploads)
        [spec] = _specs(door, wish, [wish.row(asked.uploads)], place="")
        with renamed(batch__name="batch"):
            [made] = client.submit(
                [spec],
                batch=wish.batch,
                priority=wish.priority,
                force=wish.force,
                webhook=wish.webhook,
                tenant=seen.tenant,
            )
        audit.job_id = made.job_id
    return made


def submit_batch(seen: Seen, wish: BatchWish) -> tuple[str, list[Submission]]:
    """Check all rows and submit them; returns the batch's id, too.

    Raises:
        InvalidInput, Refused: name the fields of every row that is wrong.
    """
    rows = [_row(number, each) for number, each in enumerate(wish.rows or [])]
    with audited(seen, jobs=len(rows)) as audit:
        specs = _specs(_ApiDoor(seen, audit.count), wish, rows, place="rows.{}.")
        seen.client.check_webhooks(wish.webhook)
        with renamed(batch__name="name"):
            batch = seen.store.open_batch(wish.name, tenant=seen.tenant)
        submissions = seen.client.submit(
            specs,
            batch_id=batch.id,
            priority=wish.priority,
            force=wish.force,
            batch_webhook=wish.webhook,
            tenant=seen.tenant,
        )
        audit.batch_id = batch.id
    return str(batch.id), submissions


def submit_manifest(seen: Seen, wish: BatchWish) -> tuple[str, Report]:
    """Submit a manifest that lies in a bucket; the same again goes on, or adds what is new.

    Raises:
        InvalidInput, Refused: name the first rows that are wrong; nothing was submitted.
    """
    if seen.tenant is not None or seen.caller.quota != NO_QUOTA:
        # What a manifest names is read with the deployment's own rights, and counted at the end.
        detail = "manifests are for keys without tenant and quotas; send rows instead"
        raise Refused(403, "forbidden", detail)
    client, where = seen.client, str(wish.manifest)
    client.check_webhooks(wish.webhook)
    with TemporaryDirectory() as folder, audited(seen, jobs=0) as audit:
        options = BulkOptions(
            str(wish.name),
            wish.priority,
            force=wish.force,
            rejects=Path(folder) / "rejects.jsonl",
        )
        defaults = {} if wish.model is None else {"model": wish.model}
        plan = Plan(lru_cache(client.model), defaults=defaults)
        with renamed(batch__name="name", source__uri="manifest"):
            report = run_bulk(client, open_manifest(where, client.objects), plan, options)
        if not report.submitted:
            raise refused_rows(
                [
                    FieldProblem(
                        field=f"manifest.{each.row.number}.{each.field}", detail=each.problem
                    )
                    for each in report.first_refused
                ]
            )
        batch = seen.store.batch(str(wish.name))
        if wish.webhook:
            client.subscribe_to_batch(batch.id, wish.webhook)
        audit.batch_id = batch.id
    return str(batch.id), report


@dataclass
class Audit:
    """What came of a submission."""

    count: Callable[[int], None]
    """Counts more bytes for it; raises Refused where they are too many for the key."""
    job_id: UUID | None = None
    batch_id: UUID | None = None


@contextmanager
def audited(seen: Seen, *, jobs: int) -> Iterator[Audit]:
    """Keep the book of submissions, and its quotas.

    Raises:
        Refused: it is too much for the key.
    """
    caller = seen.caller
    who = Submitter(caller.id, caller.name, caller.tenant, caller.quota)
    with _within_quota(caller):
        entry = seen.store.begin_submission(who, jobs=jobs)

    def count(more: int) -> None:
        with _within_quota(caller):
            seen.store.add_bytes(who, entry, more)

    audit = Audit(count)
    try:
        yield audit
    except BaseException:
        seen.store.refuse_submission(entry)
        raise
    seen.store.end_submission(entry, job_id=audit.job_id, batch_id=audit.batch_id)


@contextmanager
def _within_quota(caller: Caller) -> Iterator[None]:
    try:
        yield
    except OverQuota as over:
        detail = f"the key {caller.name!r} may have {over.limit} {_WORDS[over.name]}; try later"
        raise Refused(429, "quota_exceeded", detail, headers={"Retry-After": "60"}) from None


def _row(number: int, wish: RowWish) -> Row:
    try:
        return wish.row({})
    except InvalidInput as error:
        raise InvalidInput(f"rows.{number}.{error.field}", error.problem) from None


def _specs(door: _ApiDoor, order: Order, rows: Sequence[Row], place: str) -> list[Spec]:
    admission = admit(rows, door, door.seen.client.model(order.model))
    if admission.refused:
        raise refused_rows(
            [
                FieldProblem(
                    field=place.format(each.row - 1)
                    + ("source" if each.field == "image" else each.field),
                    detail=each.reason.removeprefix(f"{each.field}: "),
                )
                for each in admission.refused
            ]
        )
    return admission.specs
