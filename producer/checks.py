"""What `edict doctor` looks at: each service by itself, within seconds, with the remedy.

Checks do not depend on each other: one that hangs is given up after its time, and the others
still answer.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.celery_app import check_broker, make_app
from jobs.database import check_database, open_database
from jobs.errors import JobsError
from jobs.model_names import AdapterName, split_name
from jobs.objects import ObjectStore
from jobs.settings import Settings, parse_model
from jobs.store import JobStore

LIMIT_SECONDS = 8.0

MODEL_PARTS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""What a folder in the Stable Diffusion layout holds."""


@dataclass(frozen=True)
class Finding:
    """What one check found: `detail` says how things are, and what to do where they are bad."""

    name: str
    good: bool
    detail: str


class _Bad(Exception):
    """Something is wrong; the message says what and what to do."""


Check = Callable[[Settings], str]


def examine(
    settings: Settings,
    *,
    limit: float = LIMIT_SECONDS,
    checks: Sequence[tuple[str, Check]] | None = None,
) -> list[Finding]:
    """Run the checks (None: all) at once; each has `limit` seconds."""
    started = _start(settings, CHECKS if checks is None else checks)
    return [_finding(name, answer, limit) for name, answer in started]


def _start(
    settings: Settings, checks: Sequence[tuple[str, Check]]
) -> list[tuple[str, "SimpleQueue[Finding]"]]:
    started = []
    for name, check in checks:
        answer: SimpleQueue[Finding] = SimpleQueue()
        # Daemons: one that hangs must not keep the process from ending.
        threading.Thread(target=_run, args=(name, check, settings, answer), daemon=True).start()
        started.append((name, answer))
    return started


def _run(name: str, check: Check, settings: Settings, answer: "SimpleQueue[Finding]") -> None:
    try:
        answer.put(Finding(name, good=True, detail=check(settings)))
    except (JobsError, _Bad) as error:
        answer.put(Finding(name, good=False, detail=str(error)))
    except Exception as error:  # a check that breaks is a finding, not the end of the others
        answer.put(Finding(name, good=False, detail=f"{type(error).__name__}: {error}"))


def _finding(name: str, answer: "SimpleQueue[Finding]", limit: float) -> Finding:
    try:
        return answer.get(timeout=limit)
    except Empty:
        problem = f"no answer within {limit:g} s; check the address, and firewalls on the way"
        return Finding(name, good=False, detail=problem)


def check_database_answers(settings: Settings) -> str:
    """The database can be reached."""
    with _database(settings) as engine:
        return f"{engine.url.render_as_string(hide_password=True)} answers"


def check_schema(settings: Settings) -> str:
    """The tables are those of this version."""
    from migrations.run import current_revision, head_revision

    with _database(settings) as engine:
        current, head = current_revision(engine), head_revision()
    if current != head:
        raise _Bad(
            f"the database is at {current or 'no revision'} and this version needs {head}; "
            "run `edict migrate`"
        )
    return f"up to date ({head})"


def check_redis(settings: Settings) -> str:
    """Redis takes messages."""
    if not settings.redis_url.get_secret_value():
        raise _Bad("EDICT_REDIS_URL is not set, and no embedded stack runs; " + _START)
    app = make_app(settings)
    try:
        check_broker(app)
    finally:
        app.close()
    return "answers"


def check_bucket(settings: Settings) -> str:
    """Our bucket is there, and the credentials open it."""
    if not settings.s3_bucket:
        raise _Bad("EDICT_S3_BUCKET is not set, and no embedded stack runs; " + _START)
    store = ObjectStore.from_settings(settings)
    store.check()
    return f"s3://{store.bucket} at {settings.s3_endpoint_url or 'Amazon S3'} answers"


def check_workers(settings: Settings) -> str:
    """Every model of the catalogue has a worker that gives signs of life."""
    with _database(settings) as engine:
        try:
            alive = JobStore(engine).live_workers(seen_within=settings.lease_seconds)
        except SQLAlchemyError:
            raise _Bad("the list of workers cannot be read; run `edict migrate`") from None
    served = {worker.model for worker in alive}
    names = [parse_model(model)[0] for model in settings.models]
    if missing := [name for name in names if name not in served]:
        raise _Bad(
            f"no worker is alive for {', '.join(missing)}; start one: "
            f"edict worker --model {missing[0]}"
        )
    return "; ".join(f"{worker.device} ({worker.model})" for worker in alive)


def check_models(settings: Settings) -> str:
    """Every model of the catalogue that should lie on this machine does."""
    return "; ".join(_model(model) for model in settings.models)


def _model(name: str) -> str:
    parts = split_name(name)
    said = _checkpoint(parts.source)
    return "".join([said, *(f" + {_adapter(each)}" for each in parts.adapters)])


def _adapter(adapter: AdapterName) -> str:
    # As for models: what looks like a hub id is the workers' to fetch.
    source = adapter.source
    if not Path(source).exists() and (source.startswith((".", "/", "~")) or "/" not in source):
        raise _Bad(f"LoRA {source}: there is no such file or folder; correct EDICT_MODELS")
    return f"LoRA {source} at {adapter.scale:g}"


def _checkpoint(name: str) -> str:
    folder = _demo_folder() if name == "demo" else Path(name)
    if not folder.is_dir():
        if name == "demo" or name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise _Bad(f"model {name}: there is no folder {folder}; correct EDICT_MODELS")
        return f"{name} (hub id: workers fetch it)"
    if missing := [part for part in MODEL_PARTS if not (folder / part).exists()]:
        raise _Bad(
            f"model {name}: {folder} lacks {', '.join(missing)}; copy the whole folder in the "
            "Stable Diffusion layout of diffusers"
        )
    return f"{name} ({folder})"


def _demo_folder() -> Path:
    # Found, not imported: the engine is the worker's business, and needs torch.
    spec = find_spec("edict_engine")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise _Bad("model demo: edict_engine is not installed; run pip install edict")
    return Path(places[0]) / "small_model"


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    url = settings.database_url.get_secret_value()
    if not url:
        raise _Bad("EDICT_DATABASE_URL is not set, and no embedded stack runs; " + _START)
    engine = open_database(url)
    try:
        check_database(engine)
        yield engine
    finally:
        engine.dispose()


_START = "set it, or start a stack with `edict up` in another shell"

SERVICES: tuple[tuple[str, Check], ...] = (
    ("database", check_database_answers),
    ("tables", check_schema),
    ("redis", check_redis),
    ("bucket", check_bucket),
)
CHECKS: tuple[tuple[str, Check], ...] = (
    *SERVICES,
    ("workers", check_workers),
    ("models", check_models),
)
