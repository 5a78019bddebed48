"""Names of models with adapters: taken apart, kept whole, refused."""

import pytest

from jobs.errors import ConfigurationError, InvalidInput
from jobs.model_names import AdapterName, ModelName, split_name
from jobs.settings import Settings, load_settings, parse_model
from jobs.specs import Spec, parse_spec
from tests.jobs.factories import edit


def parse(model: dict[str, str]) -> Spec:
    return parse_spec(edit().model_dump(mode="json") | {"model": model})


STYLED = "/models/sd@home/v1@abc+lora=/loras/sketch.safetensors:0.8+lora=owner/night@4f1:-0.5"


def test_a_name_is_taken_apart() -> None:
    assert split_name("demo") == ModelName("demo", None, ())
    assert split_name(STYLED) == ModelName(
        "/models/sd@home/v1",
        "abc",
        (
            AdapterName("/loras/sketch.safetensors", None, 0.8),
            AdapterName("owner/night", "4f1", -0.5),
        ),
    )
    # A colon before the last slash is part of a path.
    assert split_name("demo+lora=/a:b/c").adapters == (AdapterName("/a:b/c"),)


def test_a_model_with_adapters_is_called_by_its_whole_name() -> None:
    assert parse_model("owner/model@abc") == ("owner/model", "abc")
    assert parse_model(STYLED) == (STYLED, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo+lora=", "names no file"),
        ("+lora=/loras/a", "names no model"),
        ("demo+lora=a:much", "write a number, a:0.8"),
        ("demo+lora=a:0", "other than 0"),
        ("demo+lora=a:nan", "from -10 to 10"),
    ],
)
def test_a_wrong_name_is_refused_at_the_door_and_in_the_catalogue(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse({"name": name})
    monkeypatch.setenv("EDICT_MODELS", f"demo,{name}")
    with pytest.raises(ConfigurationError, match=message):
        load_settings()


def test_an_adapter_makes_another_job_of_it() -> None:
    plain, styled = (parse({"name": name}) for name in ("demo", "demo+lora=a/b:0.8"))
    assert plain.digest() != styled.digest()
    assert plain.inversion_digest() != styled.inversion_digest()


def test_the_catalogue_holds_models_with_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDICT_MODELS", f"demo, {STYLED}")
    assert Settings().models == ("demo", STYLED)
