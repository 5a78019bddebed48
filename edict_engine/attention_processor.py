"""Prompt-to-Prompt inside a UNet: diffusers' attention, and rows that borrow the maps of others.

``control_attention`` puts one processor on every attention of a UNet, once, when it is loaded. The
controls of a call reach it by diffusers' own route, ``cross_attention_kwargs``, which leads to all
blocks that also attend to the prompt: in the UNets of Stable Diffusion, to every attention.

Invariant: whatever concerns the whole batch runs as it does without controls, and whatever
concerns a control has a shape that does not depend on how many there are. So the bits of a row,
controlled or not, do not depend on what else is in the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from edict_engine.attention import RowControl
from edict_engine.errors import ModelNotUsable


def control_attention(unet: Any) -> None:
    """Make every attention of ``unet`` (diffusers) take ``controls``.

    Raises ``ModelNotUsable`` if one is of a kind that is not a plain query, key and value.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0  # takes seconds to import

    kinds = {type(processor) for processor in unet.attn_processors.values()}
    if others := sorted(kind.__name__ for kind in kinds - {AttnProcessor2_0}):
        raise ModelNotUsable(
            f"the UNet has attention of the kind {others[0]}: choose a Stable Diffusion model"
        )
    unet.set_attn_processor(ControlledAttention())


class ControlledAttention:
    """Attention in which the targets of ``controls`` use the maps of their sources.

    Without controls it computes what diffusers' ``AttnProcessor2_0`` does, bit for bit. A map is
    softmax(QKᵀ/√d); what it is multiplied with, V, always stays the row's own. Maps replaced for
    some tokens are not normalised again (the authors' code does not either).
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        controls: Sequence[RowControl] = (),
    ) -> Tensor:
        """Return ``attn`` of hidden states (R, N, C) or (R, C, H, W), in the same shape.

        The names are those that diffusers' ``Attention`` calls its processor with.
        """
        residual = hidden_states
        tokens = _tokens(attn, hidden_states, temb)
        query, key, value = _project(attn, tokens, encoder_hidden_states)
        mask = _mask(attn, attention_mask, key)

        if encoder_hidden_states is None:
            for control in controls:
                # The map is a function of query and key alone.
                query[control.target] = query[control.source]
                key[control.target] = key[control.source]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        if encoder_hidden_states is not None:
            for control in controls:
                mixed[control.target] = _cross_attention(control, query, key, value, mask)

        dropout, output = attn.to_out[1], attn.to_out[0]
        result: Tensor = dropout(output(mixed.transpose(1, 2).flatten(2)))
        if residual.ndim == 4:
            result = result.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            result = result + residual
        rescaled: Tensor = result / attn.rescale_output_factor
        return rescaled


def _cross_attention(
    control: RowControl, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Return the target's output, (heads, N, d).

    Columns of the map that come from the source's column i and those that are the target's own,
    each times their tokens' values, are two attentions: one of the source, where token i has the
    value of the token that it is shared with, and one of the target, where shared tokens have
    none. So no map is ever held in memory.
    """
    own = value[control.target]
    positions = torch.arange(own.shape[1], device=own.device)
    shared = (control.tokens == positions[:, None]).to(own.dtype)  # (source's, target's tokens)
    values = torch.stack([shared @ own, own * (control.tokens < 0)[:, None]])
    query, key = _pair(control, query), _pair(control, key)
    mask = None if mask is None else _pair(control, mask)
    return scaled_dot_product_attention(query, key, values, attn_mask=mask).sum(0)


def _pair(control: RowControl, rows: Tensor) -> Tensor:
    return torch.stack([rows[control.source], rows[control.target]])


def _tokens(attn: Any, hidden_states: Tensor, temb: Tensor | None) -> Tensor:
    """Return normalised hidden states as (R, N, C)."""
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if hidden_states.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    return hidden_states


def _project(attn: Any, tokens: Tensor, encoded: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value, (R, heads, N, d) each; ``encoded`` is the prompt's, if any."""
    if encoded is None:
        encoded = tokens
    elif attn.norm_cross:
        encoded = attn.norm_encoder_hidden_states(encoded)
    query, key, value = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (attn.to_q(tokens), attn.to_k(encoded), attn.to_v(encoded))
    )
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    return query, key, value


def _mask(attn: Any, mask: Tensor | None, key: Tensor) -> Tensor | None:
    """Return ``mask`` as (R, heads, 1 or N, number of keys)."""
    if mask is None:
        return None
    rows, heads, length, _ = key.shape
    prepared: Tensor = attn.prepare_attention_mask(mask, length, rows)
    return prepared.view(rows, heads, -1, prepared.shape[-1])
