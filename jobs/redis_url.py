"""The URL of Redis as every client of ours uses it: over TLS, its certificate is looked at.

kombu takes a `rediss://` URL that says nothing of certificates to mean that any will do, which
keeps out who listens, and lets in who answers in the server's place. redis-py takes it to mean the
opposite. Here it means that the certificate must be signed by whom we trust, for both.
"""

from urllib.parse import parse_qs, urlsplit

from jobs.errors import ConfigurationError
from jobs.settings import Settings, without_password

SOCKET_SCHEME = "redis+socket://"
SCHEMES = ("redis://", "rediss://", SOCKET_SCHEME)
_CHECK = "ssl_cert_reqs"
_CHECKS = ("required", "optional", "none")
UNTRUSTED = "certificate verify failed"
"""What OpenSSL says in every client's words for it."""


def redis_url(settings: Settings) -> str:
    """The setting, which names its check of certificates if it is `rediss://`.

    Raises:
        ConfigurationError: it is not the URL of a Redis, or asks for a check that there is not.
    """
    url = settings.redis_url.get_secret_value()
    if not url.startswith(SCHEMES):
        raise ConfigurationError(
            f"EDICT_REDIS_URL {without_password(url)!r} does not begin with one of "
            f"{', '.join(SCHEMES)}; use for example redis://:password@host:6379/0"
        )
    if not url.startswith("rediss://"):
        return url
    query = urlsplit(url).query
    asked = parse_qs(query).get(_CHECK)
    if asked is None:
        return f"{url}{'&' if query else '?'}{_CHECK}=required"
    if asked[-1] not in _CHECKS:
        raise ConfigurationError(
            f"EDICT_REDIS_URL has {_CHECK}={asked[-1]!r:.40}; use one of {', '.join(_CHECKS)}, or "
            "leave it out, which is 'required'"
        )
    return url


def trust_remedy(reason: str) -> str:
    """What to do where a server's certificate was refused; nothing for other reasons."""
    if UNTRUSTED not in reason:
        return ""
    return (
        "It is not signed by whom this machine trusts: give its authority's certificate, "
        "?ssl_ca_certs=/path/ca.pem in the URL. "
    )
