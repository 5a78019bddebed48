"""From what is asked for to submitted jobs.

Images come with the request or lie in a bucket that jobs may read. Paths of this machine are no
addresses here: whoever may ask over the network must not read its files. In our own bucket lie
everybody's images and results: a tenant reads only what it uploaded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from jobs.access import NO_QUOTA
from jobs.errors import InvalidInput
from jobs.records import Submission
from jobs.specs import Source, Spec
from jobs.store.auditing import OverQuota, Submitter
from producer.admission import Row, admit
from producer.api.problems import FieldProblem, Refused, refused_rows
from producer.api.seen import Seen
from producer.api.wishes import Asked, BatchWish, Order, RowWish, Upload
from producer.bulk import BulkOptions, Plan, open_manifest, run_bulk
from producer.bulk.run import Report
from producer.fetching import fetch, shown_source

UPLOADS = "uploads"
"""Prefix in our bucket of what was uploaded by presigned addresses, then the tenant's name."""

_NOBODY = "-"
_WORDS = {
    "max_live": "jobs that have not ended",
    "max_jobs": "jobs in 24 hours",
    "max_bytes": "uploaded bytes in 24 hours",
}


def upload_prefix(tenant: str | None) -> str:
    """Where a tenant's uploads lie in our bucket."""
    return f"{UPLOADS}/{tenant or _NOBODY}/"


@dataclass(frozen=True)
class _ApiDoor:
    """The door for those who ask over the network: no paths."""

    seen: Seen
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def admit(self, where: str) -> Source:
        door = self.seen.client.sources
        if where in self.uploads:
            upload = self.uploads[where]
            return door.upload(upload.data, upload.name)
        settings = self.seen.client.settings
        if where.startswith("https://"):
            limit = settings.max_source_bytes
            data = fetch(where, settings.source_hosts, max_bytes=limit)
            return door.upload(data, shown_source(where))
        if not where.startswith("s3://"):
            raise InvalidInput("source", f"{where!r:.100} is not of the form s3://bucket/key")
        objects = self.seen.client.objects
        bucket, key = objects.locate(where)
        if bucket != objects.bucket or not key.startswith(f"{UPLOADS}/"):
            self._check_whose(bucket, key, where)
            return door.admit(where)
        self._check_whose(bucket, key, where)
        # Its address may still be written to: a job's image stays what it is.
        return door.upload(objects.read(where, max_bytes=settings.max_source_bytes), where)

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
    size = sum(len(upload.data) for upload in asked.uploads.values())
    with audited(seen, jobs=1, size=size) as audit:
        [spec] = _specs(seen, wish, [wish.row(asked.uploads)], asked.uploads, place="")
        batch_id = None
        if wish.batch is not None:
            batch_id = client.store.open_batch(wish.batch, tenant=seen.tenant).id
        [made] = client.submit(
            [spec],
            batch_id=batch_id,
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
    with audited(seen, jobs=len(rows), size=0) as audit:
        specs = _specs(seen, wish, rows, {}, place="rows.{}.")
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
    with TemporaryDirectory() as folder, audited(seen, jobs=0, size=0) as audit:
        options = BulkOptions(
            str(wish.name),
            wish.priority,
            force=wish.force,
            rejects=Path(folder) / "rejects.jsonl",
        )
        defaults = {} if wish.model is None else {"model": wish.model}
        plan = Plan(lru_cache(client.model), defaults=defaults)
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

    job_id: UUID | None = None
    batch_id: UUID | None = None


@contextmanager
def audited(seen: Seen, *, jobs: int, size: int) -> Iterator[Audit]:
    """Keep the book of submissions, and its quotas.

    Raises:
        Refused: it is too much for the key.
    """
    caller = seen.caller
    who = Submitter(caller.id, caller.name, caller.tenant, caller.quota)
    try:
        entry = seen.store.begin_submission(who, jobs=jobs, size=size)
    except OverQuota as over:
        detail = f"the key {caller.name!r} may have {over.limit} {_WORDS[over.name]}; try later"
        raise Refused(429, "quota_exceeded", detail, headers={"Retry-After": "60"}) from None
    audit = Audit()
    try:
        yield audit
    except BaseException:
        seen.store.drop_submission(entry)
        raise
    seen.store.end_submission(entry, **vars(audit))


def _row(number: int, wish: RowWish) -> Row:
    try:
        return wish.row({})
    except InvalidInput as error:
        raise InvalidInput(f"rows.{number}.{error.field}", error.problem) from None


def _specs(
    seen: Seen, order: Order, rows: Sequence[Row], uploads: Mapping[str, Upload], place: str
) -> list[Spec]:
    admission = admit(rows, _ApiDoor(seen, uploads), seen.client.model(order.model))
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
