"""The command line, `edict`.

Invariant: importing this package, which `edict --help` does, imports neither boto3 nor Celery nor
SQLAlchemy nor pydantic, and nothing here ever imports torch: commands import what they need when
they run.
"""

from producer.cli.app import app
from producer.cli.completion import answer_the_shell

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    answer_the_shell()
    app(prog_name="edict")
