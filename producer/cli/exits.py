"""Exit statuses: the one place that says what a command ends with, in code and in docs/cli.md.

They are part of the interface: scripts depend on them, so none changes its meaning.
"""

from enum import IntEnum


class Exit(IntEnum):
    """What a command ends with; each member's text is what the reference says of it."""

    meaning: str

    def __new__(cls, status: int, meaning: str) -> "Exit":
        """A status and its meaning."""
        made = int.__new__(cls, status)
        made._value_ = status
        made.meaning = meaning
        return made

    DONE = 0, "All that was asked for is done, and what was waited for or compared is well."
    FAILED = (
        1,
        "It did not come to that: a job failed, an image or row was refused while others went, a "
        "check found something, a service does not answer, there is no job of that name, or the "
        "question was answered with no.",
    )
    USAGE = (
        2,
        "The command is to be written differently: an unknown option, a value out of its range, a "
        "file that cannot be read, a profile that does not exist. Nothing was done.",
    )
    INTERRUPTED = 130, "Ctrl-C ended it. Services that were told to stop and did end with 0."
