"""The commands put together, and what becomes of errors."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.errors import InvalidInput, JobsError
from producer.cli import (
    batches,
    bulk,
    completion,
    control,
    demo,
    doctor,
    evaluate,
    export,
    failures,
    gallery,
    gate,
    init,
    job,
    keys,
    migrate,
    prefetch,
    prune,
    reproduce,
    results,
    retention,
    schedule,
    serve,
    status,
    steer,
    submit,
    up,
    watch,
    webhooks,
    worker,
    workers,
)
from producer.cli import open as open_
from producer.cli.exits import Exit
from producer.cli.options import examples
from producer.cli.output import complain, out
from producer.cli.profiles import PROFILE, apply, profile_names
from producer.embedded.errors import EmbeddedError

ORDER = (
    "demo", "up", "init",
    "submit", "bulk", "schedule", "batches", "status", "watch", "gate", "results", "export",
    "gallery", "reproduce", "eval",
    "job", "failures", "retry", "cancel", "pause", "resume", "webhooks", "workers",
    "worker", "prefetch", "control", "serve", "open", "keys", "migrate", "doctor", "retention",
    "prune", "completion",
)  # fmt: skip

WITHOUT_SETTINGS = {"init", "completion"}
"""They are how a damaged file of settings is written anew."""


class Commands(TyperGroup):
    """Turns errors made for people into one message and an exit status; others are our bugs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands as the help shows them: what one does first comes first."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            complain(str(error))
            raise typer.Exit(Exit.USAGE) from None
        except (JobsError, EmbeddedError) as error:
            complain(str(error))
            raise typer.Exit(Exit.FAILED) from None


app = typer.Typer(
    cls=Commands,
    name="edict",
    help="Edit images in bulk with exact diffusion inversion (EDICT).",
    epilog=examples(
        "edict demo",
        "edict up                             [dim]then, in another shell:[/]",
        "edict submit edit cat.jpg --from 'a cat' --to 'a dog' --wait",
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    # `edict completion` names the shell instead of guessing it.
    add_completion=False,
    # Locals in tracebacks would show settings, passwords among them.
    pretty_exceptions_enable=False,
)

_TRY, _WORK, _STEER, _RUN = "Try it", "Work", "Steer the work", "Run the services"

app.command("demo", rich_help_panel=_TRY, epilog=demo.EXAMPLES)(demo.demo)
app.command("up", rich_help_panel=_TRY, epilog=up.EXAMPLES)(up.up)
app.command("init", rich_help_panel=_TRY, epilog=init.EXAMPLES)(init.init)
app.add_typer(submit.app, name="submit", rich_help_panel=_WORK)
app.command("bulk", rich_help_panel=_WORK, epilog=bulk.EXAMPLES)(bulk.bulk)
app.add_typer(schedule.app, name="schedule", rich_help_panel=_WORK)
app.command("batches", rich_help_panel=_WORK, epilog=batches.EXAMPLES)(batches.batches)
app.command("status", rich_help_panel=_WORK, epilog=status.EXAMPLES)(status.status)
app.command("watch", rich_help_panel=_WORK, epilog=watch.EXAMPLES)(watch.watch)
app.command("gate", rich_help_panel=_WORK, epilog=gate.EXAMPLES)(gate.gate)
app.command("results", rich_help_panel=_WORK, epilog=results.EXAMPLES)(results.results)
app.command("export", rich_help_panel=_WORK, epilog=export.EXAMPLES)(export.export)
app.command("gallery", rich_help_panel=_WORK, epilog=gallery.EXAMPLES)(gallery.gallery)
app.command("reproduce", rich_help_panel=_WORK, epilog=reproduce.EXAMPLES)(reproduce.reproduce)
app.add_typer(evaluate.app, name="eval", rich_help_panel=_WORK)
app.command("job", rich_help_panel=_STEER, epilog=job.EXAMPLES)(job.job)
app.command("failures", rich_help_panel=_STEER, epilog=failures.EXAMPLES)(failures.failures)
app.command("retry", rich_help_panel=_STEER, epilog=steer.RETRY_EXAMPLES)(steer.retry)
app.command("cancel", rich_help_panel=_STEER, epilog=steer.CANCEL_EXAMPLES)(steer.cancel)
app.command("pause", rich_help_panel=_STEER, epilog=steer.PAUSE_EXAMPLES)(steer.pause)
app.command("resume", rich_help_panel=_STEER, epilog=steer.RESUME_EXAMPLES)(steer.resume)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=_STEER)
app.command("workers", rich_help_panel=_STEER, epilog=workers.EXAMPLES)(workers.workers)
app.command("worker", rich_help_panel=_RUN, epilog=worker.EXAMPLES)(worker.worker)
app.command("prefetch", rich_help_panel=_RUN, epilog=prefetch.EXAMPLES)(prefetch.prefetch)
app.command("control", rich_help_panel=_RUN, epilog=control.EXAMPLES)(control.control)
app.command("serve", rich_help_panel=_RUN, epilog=serve.EXAMPLES)(serve.serve)
app.command("open", rich_help_panel=_RUN, epilog=open_.EXAMPLES)(open_.open_)
app.add_typer(keys.app, name="keys", rich_help_panel=_RUN)
app.command("migrate", rich_help_panel=_RUN, epilog=migrate.EXAMPLES)(migrate.migrate)
app.command("doctor", rich_help_panel=_RUN, epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(retention.app, name="retention", rich_help_panel=_RUN)
app.command("prune", rich_help_panel=_RUN, epilog=prune.EXAMPLES)(prune.prune)
app.command("completion", rich_help_panel=_RUN, epilog=completion.EXAMPLES)(completion.completion)


@app.callback(invoke_without_command=True)
def _common(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help=f"Settings of that name in edict.toml. Default: {PROFILE}. See edict init.",
            autocompletion=profile_names,
        ),
    ] = None,
) -> None:
    if version:
        from importlib.metadata import version as installed

        out.print(f"edict {installed('edict')}", highlight=False)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        raise typer.Exit(Exit.USAGE)
    if ctx.invoked_subcommand not in WITHOUT_SETTINGS:
        apply(profile)
