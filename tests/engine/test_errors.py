"""The error tree and the cost of importing."""

import subprocess
import sys

from edict_engine import errors


def tree(root: type[errors.EngineError]) -> list[type[errors.EngineError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in tree(errors.EngineError)]
    assert len(set(codes)) == len(codes)


def test_the_docstring_draws_every_error_with_its_code() -> None:
    drawn = errors.__doc__ or ""
    for error in tree(errors.EngineError):
        assert any(error.__name__ in line and error.code in line for line in drawn.splitlines())


def test_a_prompt_that_is_too_long_says_by_how_much() -> None:
    error = errors.PromptTooLong(80, 77)
    assert (error.tokens, error.limit) == (80, 77)
    assert "shorten it by at least 3" in str(error)


def test_importing_the_package_errors_and_parameters_imports_no_torch() -> None:
    code = (
        "import sys, edict_engine, edict_engine.errors, edict_engine.parameters;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_model_module_imports_no_model_library() -> None:
    code = (
        "import sys, edict_engine.editor;"
        "sys.exit('diffusers' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
