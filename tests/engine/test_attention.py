"""Prompt-to-Prompt: which tokens are shared, what the maps become, and that nobody else notices."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models import attention_processor as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edict_engine.attention import Control, RowControl, share_tokens
from edict_engine.attention_processor import ControlledAttention, control_attention
from edict_engine.conditioning import Conditioning
from edict_engine.errors import ModelNotUsable, PromptTooLong
from edict_engine.fixed_point import LatentPair, to_float
from edict_engine.group import Trajectory
from edict_engine.guidance import ClassifierFree
from edict_engine.lanes import Lanes
from edict_engine.model import Model
from edict_engine.parameters import SamplerParameters
from edict_engine.ticket import Ticket

from .conftest import TINY, start_pair, tiny_model, trajectory

BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
START, END, PAD = 98, 99, 0


def padded(*words: int) -> list[int]:
    return [START, *words, END, *[PAD] * (8 - len(words))]


# ---- tokens


@pytest.mark.parametrize(
    ("base", "edit", "first"),
    [
        ((1, 2, 3), (1, 2, 3), [0, 1, 2, 3, 4]),
        ((1, 2, 3), (1, 7, 3), [0, 1, 2, 3, 4]),  # a swapped word keeps its place
        ((1, 2, 3), (1, 7, 8, 3), [0, 1, -1, -1, 3, 4]),
        ((1, 2, 3), (1, 2, 3, 7), [0, 1, 2, 3, -1, 4]),
        ((1, 2, 3), (7, 1, 2, 3), [0, -1, 1, 2, 3, 4]),
        ((1, 2, 3), (1, 3), [0, 1, 3, 4]),
    ],
)
def test_what_two_prompts_have_in_common_is_shared(
    base: tuple[int, ...], edit: tuple[int, ...], first: list[int]
) -> None:
    tokens = share_tokens(padded(*base), padded(*edit))
    assert (tokens.dtype, tokens.shape) == (torch.int64, (10,))
    assert tokens.tolist()[: len(first)] == first


WORDS = st.lists(st.integers(1, 4), max_size=8)


@settings(max_examples=50, deadline=None)
@given(base=WORDS, edit=WORDS)
def test_no_token_is_shared_twice_and_the_order_is_kept(base: list[int], edit: list[int]) -> None:
    shared = [i for i in share_tokens(padded(*base), padded(*edit)).tolist() if i >= 0]
    assert shared == sorted(set(shared))
    assert len(shared) >= 2  # start and end at the least


def test_a_model_aligns_prompts_by_its_own_tokens(model: Model) -> None:
    control = model.attention_control("a red car", "a blue car")
    assert (control.source, control.target) == (1, 2)
    assert control.tokens.shape == (model.max_tokens,)
    same = model.attention_control("a red car", "a red car").tokens
    assert same.tolist() == list(range(model.max_tokens))


def test_a_prompt_that_is_too_long_cannot_be_aligned(model: Model) -> None:
    with pytest.raises(PromptTooLong, match="shorten it"):
        model.attention_control("a dog", "a very " * 50)


# ---- one attention

LATENT, PROMPT, HEADS, SIZE = 16, 12, 4, 32
PLAIN: dict[str, Any] = {}
BLOCK = {"norm_num_groups": 8, "residual_connection": True, "rescale_output_factor": 1.5}
NORMED = {"qk_norm": "layer_norm", "out_bias": False, "bias": True}
SPATIAL = {"spatial_norm_dim": 32, "residual_connection": True}
PROMPT_NORM = {"cross_attention_norm": "layer_norm"}


def attention(dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    return theirs.Attention(SIZE, heads=HEADS, dim_head=8, **options).to(dtype).eval()


def hidden_states(rows: int = 5, length: int = LATENT, size: int = SIZE) -> Tensor:
    return torch.randn(rows, length, size, generator=torch.Generator().manual_seed(length))


def prompts() -> Tensor:
    return hidden_states(length=PROMPT, size=24)


@BOTH_DTYPES
@pytest.mark.parametrize("image_layout", [False, True])
@pytest.mark.parametrize(
    ("options", "cross"),
    [
        (PLAIN, False),
        (PLAIN, True),
        (NORMED, True),
        (PROMPT_NORM, True),
        (BLOCK, False),
        (SPATIAL, False),
    ],
)
@torch.inference_mode()
def test_without_control_attention_is_diffusers_own_bit_for_bit(
    dtype: torch.dtype, image_layout: bool, options: dict[str, Any], cross: bool
) -> None:
    attn = attention(dtype, cross_attention_dim=24 if cross else None, **options)
    states = hidden_states().to(dtype)
    if image_layout or options is SPATIAL:
        states = states.transpose(1, 2).reshape(5, SIZE, 4, 4)
    arguments = (states, prompts().to(dtype) if cross else None, None, states)

    expected = theirs.AttnProcessor2_0()(attn, *arguments)

    assert torch.equal(ControlledAttention()(attn, *arguments), expected)


@torch.inference_mode()
def test_a_mask_hides_tokens_as_in_diffusers() -> None:
    attn, mask = attention(cross_attention_dim=24), torch.zeros(5, 1, PROMPT)
    mask[..., 5:] = -10_000
    expected = theirs.AttnProcessor2_0()(attn, hidden_states(), prompts(), mask)
    assert torch.equal(ControlledAttention()(attn, hidden_states(), prompts(), mask), expected)


def explicit(attn: Any, states: Tensor, encoded: Tensor, controls: Sequence[RowControl]) -> Tensor:
    """The same in the paper's words: maps held in memory, and columns of them replaced."""

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (HEADS, 8)).transpose(1, 2)

    query, key, value = heads(attn.to_q(states)), heads(attn.to_k(encoded)), attn.to_v(encoded)
    maps = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    for control in controls:
        for token, source in enumerate(control.tokens.tolist()):
            if source >= 0:
                maps[control.target, ..., token] = maps[control.source, ..., source]
    mixed = (maps @ heads(value)).transpose(1, 2).flatten(2)
    output: Tensor = attn.to_out[0](mixed)
    return output


CROSS = [
    RowControl(1, 3, share_tokens(padded(1, 2, 3), padded(1, 7, 8, 3))),
    RowControl(4, 0, share_tokens(padded(1, 2), padded(5, 2))),
]


@torch.inference_mode()
def test_shared_tokens_get_the_sources_maps_and_others_keep_their_own() -> None:
    attn = attention(cross_attention_dim=24)
    encoded = hidden_states(length=10, size=24)
    ours = ControlledAttention()(attn, hidden_states(), encoded, controls=CROSS)
    assert (ours - explicit(attn, hidden_states(), encoded, CROSS)).abs().max().item() < 1e-5
    assert (ours - explicit(attn, hidden_states(), encoded, ())).abs().max().item() > 1e-2


@torch.inference_mode()
def test_a_mask_stays_with_its_row_under_control() -> None:
    # Hiding token 2 of everybody is the same as a prompt in which nobody has it.
    attn, tokens = attention(cross_attention_dim=24), torch.tensor([0, 1, -1, 3])
    encoded, mask = hidden_states(length=4, size=24), torch.zeros(5, 1, 4)
    mask[..., 2] = -10_000
    without = RowControl(1, 3, torch.tensor([0, 1, 2]))
    kept = [0, 1, 3]

    ours = ControlledAttention()(
        attn, hidden_states(), encoded, mask, controls=[RowControl(1, 3, tokens)]
    )

    expected = explicit(attn, hidden_states(), encoded[:, kept], [without])
    assert (ours - expected).abs().max().item() < 1e-5


@torch.inference_mode()
def test_self_attention_gets_the_sources_maps_and_its_own_values() -> None:
    everything = torch.arange(LATENT)
    controls = [RowControl(1, 3, everything), RowControl(4, 0, everything)]
    attn = attention()
    # Which tokens the prompts share makes no difference here.
    ours = ControlledAttention()(attn, hidden_states(), controls=CROSS)
    expected = explicit(attn, hidden_states(), hidden_states(), controls)
    assert (ours - expected).abs().max().item() < 1e-5


@BOTH_DTYPES
@pytest.mark.parametrize("cross", [False, True])
@torch.inference_mode()
def test_only_target_rows_change_and_by_no_bit_with_the_number_of_controls(
    dtype: torch.dtype, cross: bool
) -> None:
    attn = attention(dtype, cross_attention_dim=24 if cross else None)
    states = hidden_states().to(dtype)
    encoded = hidden_states(length=10, size=24).to(dtype) if cross else None
    free, one, two = (
        ControlledAttention()(attn, states, encoded, controls=controls)
        for controls in ((), CROSS[:1], CROSS)
    )
    assert torch.equal(one[[0, 1, 2, 4]], free[[0, 1, 2, 4]])
    assert torch.equal(two[[1, 2, 4]], free[[1, 2, 4]])
    assert torch.equal(two[3], one[3])
    assert not torch.equal(one[3], free[3])
    assert not torch.equal(two[0], free[0])


# ---- a whole network

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "cross_attention_dim": 24,
}
SD1 = {
    **SMALL,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SD2 = {**SD1, "attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True}
SDXL = {
    **SMALL,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.mark.parametrize("config", [SD1, SD2, SDXL], ids=["1", "2", "xl"])
@torch.inference_mode()
def test_controls_reach_every_attention_of_every_kind_of_unet(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a UNet, and a processor that counts the attentions that controls got to
    torch.manual_seed(0)
    build: Any = UNet2DConditionModel
    unet = build(**config).eval()
    monkeypatch.setattr(theirs.logger, "warning", pytest.fail)
    inputs = (torch.randn(5, 4, 8, 8), torch.tensor([500] * 5), torch.randn(5, 10, 24))
    expected = unet(*inputs).sample
    reached: list[Any] = []

    class Counting(ControlledAttention):
        def __call__(self, attn: Any, *args: Any, controls: Any = (), **kwargs: Any) -> Tensor:
            reached.extend([attn] if controls == CROSS else [])
            return super().__call__(attn, *args, controls=controls, **kwargs)

    # When it runs without and with control
    control_attention(unet)
    free = unet(*inputs).sample
    controlled = unet(*inputs, cross_attention_kwargs={"controls": CROSS}).sample
    unet.set_attn_processor(Counting())
    unet(*inputs, cross_attention_kwargs={"controls": CROSS})

    # Then control changed its targets only, and no attention was left out
    assert torch.equal(free, expected)
    others = [1, 2, 4]
    assert torch.equal(controlled[others], expected[others])
    assert not torch.equal(controlled[0], expected[0])
    assert not torch.equal(controlled[3], expected[3])
    assert len(reached) == len(unet.attn_processors)


def test_a_unet_whose_attention_is_of_another_kind_is_refused() -> None:
    build: Any = UNet2DConditionModel
    unet = build(**SD1 | {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"})
    with pytest.raises(ModelNotUsable, match="AttnAddedKVProcessor"):
        control_attention(unet)


@BOTH_DTYPES
def test_a_loaded_model_answers_as_the_bare_network_does(dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    build: Any = UNet2DConditionModel
    unet = build.from_pretrained(TINY / "unet", torch_dtype=dtype).eval()
    inputs = (torch.randn(2, 4, 8, 8).to(dtype), torch.tensor([900, 10]))
    context = Conditioning.stack([model.embed("a dog"), model.embed("a cat")])
    with torch.inference_mode():
        expected = unet(*inputs, context.hidden).sample
    assert torch.equal(model.denoise(*inputs, context), expected)


# ---- lanes

STEPS = SamplerParameters(steps=2, strength=1.0, guidance=3.0)
SHORT = SamplerParameters(steps=1, strength=1.0, guidance=1.0)
RUNG = 8


def controlled(
    model: Model,
    base: str = "a red car",
    edit: str = "a blue car",
    start: LatentPair | None = None,
    direction: str = "generate",
) -> Trajectory[LatentPair]:
    guidance = ClassifierFree(
        model.embed(""),
        model.embed(base),
        STEPS.guidance,
        edit=model.embed(edit),
        attention=model.attention_control(base, edit),
    )
    return trajectory(STEPS, start or start_pair(7), direction=direction, guidance=guidance)


def plain(
    model: Model, prompt: str = "a castle", seed: int = 1, parameters: SamplerParameters = STEPS
) -> Trajectory[LatentPair]:
    guidance = ClassifierFree(model.embed(""), model.embed(prompt), parameters.guidance)
    return trajectory(parameters, start_pair(seed), direction="generate", guidance=guidance)


def run(model: Model, *works: Trajectory[LatentPair]) -> list[LatentPair]:
    """Run all together in one group of ``RUNG`` rows."""
    lanes, tickets = Lanes(model.denoise, [RUNG]), [Ticket[LatentPair]() for _ in works]
    for work, ticket in zip(works, tickets, strict=True):
        lanes.add(work, ticket, 0, None)
    lanes.turn()
    assert all(ticket.rung == RUNG for ticket in tickets)  # nobody waited
    while not lanes.idle:
        lanes.turn()
    return [ticket.result() for ticket in tickets]


def test_a_controlled_lane_takes_three_rows(model: Model) -> None:
    guidance = controlled(model).guidance
    assert guidance.rows == len(guidance.contexts.hidden) == 3
    assert isinstance(guidance.control, Control)


@pytest.mark.slow
@BOTH_DTYPES
def test_company_changes_no_bit_of_a_controlled_lane_and_it_none_of_theirs(
    dtype: torch.dtype,
) -> None:
    model = tiny_model(dtype)
    [alone], [neighbour] = run(model, controlled(model)), run(model, plain(model))
    [unlike] = run(model, plain(model, "a blue car", seed=7))

    # The first one ends half way, and the others' rows move up.
    _, together, behind = run(
        model, plain(model, parameters=SHORT), controlled(model), plain(model)
    )

    assert together.equal(alone)
    assert behind.equal(neighbour)
    assert not together.equal(unlike)  # control does something


@pytest.mark.slow
@BOTH_DTYPES
def test_two_controlled_lanes_share_a_batch(dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    other = "a castle", "a castle in the style of van gogh"
    first, _, second = run(
        model, controlled(model, *other), plain(model, parameters=SHORT), controlled(model)
    )
    assert first.equal(run(model, controlled(model, *other))[0])
    assert second.equal(run(model, controlled(model))[0])


@pytest.mark.slow
def test_a_round_trip_under_control_is_exact() -> None:
    model, start = tiny_model(torch.bfloat16), start_pair(5)
    [inverted] = run(model, controlled(model, start=start, direction="invert"))
    [back] = run(model, controlled(model, start=inverted))
    assert not inverted.equal(start)
    assert back.equal(start)


def test_control_between_equal_prompts_changes_nothing_beyond_rounding() -> None:
    model = tiny_model(torch.float32)
    [same] = run(model, controlled(model, "a red car", "a red car"))
    [base] = run(model, plain(model, "a red car", seed=7))
    for ours, theirs_ in ((same.x, base.x), (same.y, base.y)):
        difference = to_float(ours - theirs_).abs().max().item()
        assert difference < 1e-5 * to_float(theirs_).abs().max().item()
