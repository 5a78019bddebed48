"""`edict migrate`: brings the database to this version's shape."""

from rich.markup import escape

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, print_data

EXAMPLES = examples(
    "edict migrate",
    "EDICT_DATABASE_URL=postgresql://edict:secret@db:5432/edict edict migrate",
)


def migrate(json: Json = False, home: Home = None) -> None:
    """Bring the database up to date; does nothing where it is there already.

    Run it before starting a new version. Several at once take turns.
    """
    from jobs.database import check_database, open_database
    from jobs.errors import ConfigurationError
    from jobs.settings import load_settings, without_password
    from migrations.run import current_revision, head_revision, upgrade

    url = load_settings(home).database_url.get_secret_value()
    if not url:
        raise ConfigurationError(
            "EDICT_DATABASE_URL is not set; set it, or start an embedded stack with `edict up`, "
            "which migrates by itself"
        )
    engine = open_database(url)
    try:
        check_database(engine)
        before = current_revision(engine)
        upgrade(url)
    finally:
        engine.dispose()
    shown, head = escape(without_password(url)), head_revision()
    if json:
        print_data({"database": without_password(url), "from": before, "to": head})
    elif before == head:
        out.print(f"{shown} is up to date ({head})", highlight=False, soft_wrap=True)
    else:
        out.print(f"{shown}: {before or 'empty'} → {head}", highlight=False, soft_wrap=True)
