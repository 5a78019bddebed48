"""Templates to pages. Everything is escaped unless a template says otherwise, and none does."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from jobs.states import ENDED, LIVE, State
from producer.plain import moment
from producer.text import seconds_text

FOLDER = Path(__file__).parent

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"moment": moment, "seconds": seconds_text}
_environment.globals |= {"STATES": tuple(State), "LIVE": LIVE, "ENDED": ENDED}


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page of a template."""
    return HTMLResponse(_environment.get_template(template).render(values), status)
