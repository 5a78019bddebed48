"""Images and latents in S3-compatible storage.

One class over boto3. Errors of the wire become the package's own (`jobs.s3`), so that callers can
tell what to try again (`ServiceUnavailable`) from what never will work (`ObjectNotFound`,
`AccessDenied`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from jobs.errors import InvalidInput, ObjectNotFound
from jobs.s3 import NOT_FOUND, code_of, errors_of, make_client
from jobs.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_EXISTS = {"412", "PreconditionFailed"}
_OURS = {"BucketAlreadyOwnedByYou"}
_HOME_REGION = "us-east-1"
_NO_CONDITIONS = {"501", "NotImplemented"}


@dataclass(frozen=True)
class ObjectInfo:
    """An object as its store describes it."""

    uri: str
    size: int
    """Bytes."""
    etag: str
    """Changes with the content."""


class ObjectStore:
    """One bucket of ours, and read access to those that the settings allow."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        readable: tuple[str, ...] = (),
        signer: "S3Client | None" = None,
    ) -> None:
        self.bucket = bucket
        self._client = client
        # Names the store as others reach it, and sends nothing.
        self._signer = signer or client
        self._readable = {bucket, *readable}

    @classmethod
    def from_settings(cls, settings: Settings) -> "ObjectStore":
        """The bucket, and the access to it, that the settings name.

        Raises:
            ConfigurationError: the endpoint is not a URL.
        """
        signer = None
        if settings.s3_public_url:
            outside = settings.model_copy(update={"s3_endpoint_url": settings.s3_public_url})
            signer = make_client(outside)
        return cls(make_client(settings), settings.s3_bucket, settings.source_buckets, signer)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._signer.close()

    def uri(self, key: str) -> str:
        """The `s3://` address of a key of ours."""
        return f"s3://{self.bucket}/{key}"

    def locate(self, uri: str) -> tuple[str, str]:
        """Take an `s3://bucket/key` address apart.

        Raises:
            InvalidInput: not such an address, or a bucket that jobs may not read.
        """
        # Not urllib's parser: to S3 a key may hold anything, `?` and `#` included.
        scheme, _, path = uri.partition("://")
        bucket, _, key = path.partition("/")
        if scheme != "s3" or not bucket or not key:
            raise InvalidInput("source.uri", f"{uri!r} is not of the form s3://bucket/key")
        # Some servers read them as a file system does, and would leave the bucket or the prefix.
        if not {".", ".."}.isdisjoint(key.replace("\\", "/").split("/")):
            raise InvalidInput(
                "source.uri", f"{uri!r} has a part that is '.' or '..'; give the key in full"
            )
        if bucket not in self._readable:
            raise InvalidInput(
                "source.uri",
                f"bucket {bucket!r} may not be read (allowed: "
                f"{', '.join(sorted(self._readable))}); add it to EDICT_SOURCE_BUCKETS",
            )
        return bucket, key

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read a whole object by its `s3://` address.

        Raises:
            InvalidInput: see `locate`, or the object is larger than `max_bytes`.
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the store answered.
        """
        bucket, key = self.locate(uri)
        with self._errors(uri):
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with answer["Body"] as body:
                size = answer["ContentLength"]
                if size > max_bytes:
                    raise InvalidInput(
                        "source.uri",
                        f"{uri} has {size} bytes, over the limit of {max_bytes}; "
                        "make it smaller or raise EDICT_MAX_SOURCE_BYTES",
                    )
                return bytes(body.read())

    def look(self, uri: str) -> "ObjectInfo":
        """Ask what an object is, without reading it.

        Raises:
            InvalidInput: see `locate`.
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the store answered.
        """
        bucket, key = self.locate(uri)
        with self._errors(uri):
            answer = self._client.head_object(Bucket=bucket, Key=key)
            return ObjectInfo(uri, int(answer["ContentLength"]), answer["ETag"].strip('"'))

    def read_part(self, info: "ObjectInfo", start: int, size: int) -> bytes:
        """Read `size` bytes from `start` on, of an object that is still what `look` said.

        Raises:
            ServiceUnavailable: it was written anew since, or the store does not answer.
            ObjectNotFound, AccessDenied: what the store answered.
        """
        bucket, key = self.locate(info.uri)
        end = min(start + size, info.size) - 1
        if end < start:
            return b""
        with self._errors(info.uri):
            answer = self._client.get_object(
                Bucket=bucket, Key=key, Range=f"bytes={start}-{end}", IfMatch=info.etag
            )
            with answer["Body"] as body:
                return bytes(body.read())

    def under(self, prefix: str) -> Iterator["ObjectInfo"]:
        """Every object under an `s3://bucket/prefix` or in an `s3://bucket`, by key.

        Raises:
            InvalidInput: see `locate`.
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the store answered.
        """
        # A whole bucket is a prefix too.
        bucket, _ = self.locate(f"{prefix}/_" if prefix.count("/") < 3 else f"{prefix}_")
        start = prefix.removeprefix(f"s3://{bucket}").removeprefix("/")
        with self._errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=start
            ):
                for each in page.get("Contents", []):
                    uri = f"s3://{bucket}/{each['Key']}"
                    yield ObjectInfo(uri, int(each["Size"]), each["ETag"].strip('"'))

    def get(self, key: str) -> bytes:
        """Read a whole object of ours.

        Raises:
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the store answered.
        """
        with self._errors(self.uri(key)):
            return bytes(self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def put(self, key: str, data: bytes, media_type: str) -> bool:
        """Write an object unless its key exists; says whether it was written.

        Raises:
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        with self._errors(self.uri(key)):
            try:
                self._client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentType=media_type, IfNoneMatch="*"
                )
            except ClientError as error:
                code = code_of(error)
                if code in _EXISTS:
                    return False
                if code not in _NO_CONDITIONS:
                    raise
                # The server does not know conditions; keys follow from content (`jobs.keys`).
                self._client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentType=media_type
                )
            return True

    def upload(self, uri: str, file: IO[bytes], media_type: str) -> None:
        """Write an object of any length from a file, in the place of what may be there.

        Raises:
            InvalidInput: see `locate`.
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        bucket, key = self.locate(uri)
        with self._errors(uri):
            try:
                self._client.upload_fileobj(
                    file, bucket, key, ExtraArgs={"ContentType": media_type}
                )
            except S3UploadFailedError as error:
                # boto3 wraps what the store said.
                raise error.__context__ or error from None

    def delete(self, key: str) -> None:
        """Remove an object of ours, if it is there.

        Raises:
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        with self._errors(self.uri(key)):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def touch(self, key: str, media_type: str) -> None:
        """Make an object of ours as if it had just been written.

        Raises:
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the object store answered.
        """
        with self._errors(self.uri(key)):
            self._client.copy_object(
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": key},
                ContentType=media_type,
                # An object may only be copied onto itself where something changes.
                MetadataDirective="REPLACE",
            )

    def modified_at(self, key: str) -> datetime | None:
        """When an object of ours was last written; None where there is none.

        Raises:
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        try:
            with self._errors(self.uri(key)):
                return self._client.head_object(Bucket=self.bucket, Key=key)["LastModified"]
        except ObjectNotFound:
            return None

    def size(self, key: str) -> int | None:
        """Bytes of an object of ours; None where there is none.

        Raises:
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        try:
            with self._errors(self.uri(key)):
                return int(self._client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])
        except ObjectNotFound:
            return None

    def presigned_url(self, key: str, *, seconds: int) -> str:
        """An address from which anybody may read an object of ours for that long.

        Raises:
            AccessDenied: there are no credentials to sign with.
        """
        with self._errors(self.uri(key)):
            return str(
                self._signer.generate_presigned_url(
                    "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=seconds
                )
            )

    def presigned_upload(self, key: str, *, size: int, seconds: int) -> tuple[str, dict[str, str]]:
        """Where anybody may put an object of ours of exactly `size` bytes: an address to POST a
        form to, and the form's fields; the content follows them as `file`.

        Raises:
            AccessDenied: there are no credentials to sign with.
        """
        with self._errors(self.uri(key)):
            form = self._signer.generate_presigned_post(
                self.bucket,
                key,
                Conditions=[["content-length-range", size, size]],
                ExpiresIn=seconds,
            )
        return form["url"], form["fields"]

    def ensure_bucket(self) -> None:
        """Create our bucket unless it exists.

        Raises:
            AccessDenied, ServiceUnavailable: what the store answered.
        """
        with self._errors(f"s3://{self.bucket}"):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if code_of(error) not in NOT_FOUND:
                    raise
                self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        try:
            if region == _HOME_REGION:
                # The only region that must not be named.
                self._client.create_bucket(Bucket=self.bucket)
            else:
                self._client.create_bucket(
                    Bucket=self.bucket,
                    CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                )
        except ClientError as error:
            # Somebody else, starting at the same time, was quicker.
            if code_of(error) not in _OURS:
                raise

    def check(self) -> None:
        """Look whether our bucket is there and readable.

        Raises:
            ObjectNotFound, AccessDenied, ServiceUnavailable: what the store answered.
        """
        with self._errors(f"s3://{self.bucket}"):
            self._client.head_bucket(Bucket=self.bucket)

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return errors_of(self._client, what)
