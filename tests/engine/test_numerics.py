"""In which precision a device is fastest, and what tells devices apart."""

from types import SimpleNamespace

import pytest
import torch

from edict_engine.numerics import fastest_dtype, fingerprint


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64"}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_matrix_units_for_it(
    capabilities: dict[str, object], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert fastest_dtype(torch.device("cpu")) == dtype


def test_cards_of_one_architecture_and_unequal_size_have_fingerprints_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on(multiprocessors: int) -> str:
        card = SimpleNamespace(major=8, minor=6, multi_processor_count=multiprocessors)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        return fingerprint(torch.device("cuda", 0), torch.bfloat16, 8, (4, 64, 64))

    assert on(72).startswith("cuda:sm_86x72;")
    assert on(72) != on(82)
