"""The client that speaks S3, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from jobs.errors import (
    AccessDenied,
    ConfigurationError,
    JobsError,
    ObjectNotFound,
    ServiceUnavailable,
)
from jobs.settings import Settings
from jobs.tracing import watch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOT_FOUND = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_DENIED = {401, 403}
_AWAY = "the object store does not answer; try again"


def make_client(settings: Settings) -> "S3Client":
    """A client with timeouts, a few retries, and checksums where the server knows them.

    Raises:
        ConfigurationError: the endpoint is not a URL.
    """
    secret = settings.s3_secret_access_key
    try:
        client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 3},
                s3={"addressing_style": "path"} if settings.s3_endpoint_url else {},
                # Behind a company's proxy, our own machine is not to be asked of the proxy.
                proxies={} if _is_here(settings.s3_endpoint_url) else None,
            ),
        )
    except ValueError as error:
        raise ConfigurationError(
            f"EDICT_S3_ENDPOINT_URL: {error}; use for example http://host:8333"
        ) from None
    client.meta.events.register_last("before-call.s3", _ask_no_leave)
    watch(client)
    return client


@contextmanager
def errors_of(client: "S3Client", what: str) -> Iterator[None]:
    """Say in the package's own words what the store, or the way to it, answered about `what`.

    Raises:
        ObjectNotFound, AccessDenied, ServiceUnavailable: instead of the error of the wire.
    """
    endpoint = client.meta.endpoint_url
    try:
        yield
    except ClientError as error:
        raise _answered(error, what, endpoint) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(
            f"{what} at {endpoint}: {error}; set EDICT_S3_ACCESS_KEY_ID and its secret",
            public=_closed(what),
        ) from None
    except BotoCoreError as error:
        raise ServiceUnavailable(
            f"S3 at {endpoint} does not answer for {what}: {error}. Check that it runs and "
            "EDICT_S3_ENDPOINT_URL",
            public=_AWAY,
        ) from None


def _answered(error: ClientError, what: str, endpoint: str) -> JobsError:
    code = code_of(error)
    if code in NOT_FOUND:
        return ObjectNotFound(
            f"{what} does not exist at {endpoint}",
            public=f"{what} does not exist; upload it, or correct its name",
        )
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _DENIED:
        return AccessDenied(
            f"{what} is refused by {endpoint} ({code}); check EDICT_S3_ACCESS_KEY_ID, "
            "its secret, and the bucket's policy",
            public=_closed(what),
        )
    return ServiceUnavailable(f"{what} at {endpoint} failed: {error}", public=_AWAY)


def _closed(what: str) -> str:
    return f"{what} may not be read by this server; ask whoever runs it to allow that"


def code_of(error: ClientError) -> str:
    """What the store calls the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _ask_no_leave(params: dict[str, Any], **_: object) -> None:
    """Send bodies at once, not after a "100 Continue".

    botocore reads that answer line by line until an empty line, and goes on for ever, busy, where
    the connection ends in its middle. Our bodies are small: leave would cost more than it saves.
    """
    params["headers"].pop("Expect", None)


def _is_here(endpoint: str | None) -> bool:
    return endpoint is not None and urlsplit(endpoint).hostname in {"127.0.0.1", "::1", "localhost"}
