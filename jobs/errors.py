"""Errors of the contract.

JobsError
├── ConfigurationError       settings are missing or contradict each other
├── ServiceUnavailable       the database, Redis or the object store cannot be reached
├── InvalidInput             refused at the door: names the field, the value, the limit, the remedy
│   └── NewerInput           says something that only a newer version can understand
├── NotFound                 no job, batch or object of that name
│   └── ObjectNotFound       no object at that key
├── AccessDenied             the object store refuses these credentials
├── ProcessError             a child process did not start (see `jobs.processes`)
└── LeaseLost                the claim's fencing token is no longer the row's
"""


class JobsError(Exception):
    """Base of every error of this package.

    `public` is the message for whoever asks over the network: it names no server of ours.
    """

    code = "jobs_error"

    def __init__(self, message: str = "", *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = message if public is None else public


class ConfigurationError(JobsError):
    """A setting is missing or contradicts another; the message says which and what to set."""

    code = "bad_configuration"


class ServiceUnavailable(JobsError):
    """A service does not answer; the message names it and its URL without the password."""

    code = "service_unavailable"


class InvalidInput(JobsError):
    """Input refused before any worker sees it.

    `field` is the dotted name of the refused field, so that callers can point at it.
    """

    code = "invalid_input"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NewerInput(InvalidInput):
    """Input with a version, a kind, a choice or a field that this version does not know.

    For callers it is a mistake like any other; what lies in the database was once accepted.
    """


class NotFound(JobsError):
    """There is no job or batch of that name."""

    code = "not_found"


class ObjectNotFound(NotFound):
    """There is no object at that key."""

    code = "object_not_found"


class AccessDenied(JobsError):
    """The object store refuses these credentials."""

    code = "access_denied"


class LeaseLost(JobsError):
    """The claim was taken over or cancelled: its holder must drop its work without effect."""

    code = "lease_lost"
