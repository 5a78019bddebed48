"""The server's catalogue."""

from collections.abc import Mapping, Sequence

from jobs.errors import InvalidInput
from jobs.settings import parse_model
from jobs.specs import ModelRef


def model_ref(answer: Mapping[str, Sequence[str]], name: str | None) -> ModelRef:
    """The model of that name, or the first.

    Raises:
        InvalidInput: it is not in the catalogue.
    """
    names = answer["items"]
    known = dict(map(parse_model, names))
    wanted = names[0] if name is None else name
    base, revision = parse_model(wanted)
    if base not in known:
        raise InvalidInput("model", f"{name!r} is not in the catalogue ({', '.join(names)})")
    return ModelRef(name=base, revision=revision or known[base])
