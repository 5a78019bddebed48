"""Checkpoints of each family, with random weights, from their published configs made narrow.

``PUBLISHED`` holds what the config.json files of the real checkpoints say of their structure;
``NARROW`` takes away channels, layers and heads, and nothing else. Tokenizers are those of the tiny
model, and a T5 one of a few letters.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ..conftest import TINY

Config = dict[str, Any]

#: Tokens of the tiny model's tokenizer, and of a CLIP prompt.
VOCABULARY = 140
PROMPT = 77

# stable-diffusion-v1-5, stable-diffusion-2-1 (768 pixels, velocity), sdxl-base-1.0.
_UNET: Config = {
    "act_fn": "silu",
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
SD15_UNET = _UNET | {"attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64}
SD21_UNET = _UNET | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "sample_size": 96,
    "upcast_attention": True,
    "use_linear_projection": True,
}
SDXL_UNET = _UNET | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
# stable-diffusion-3-medium.
SD3_TRANSFORMER: Config = {
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "in_channels": 16,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 24,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "sample_size": 128,
}
_VAE: Config = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
SD_VAE = _VAE | {"sample_size": 512, "scaling_factor": 0.18215}
SD21_VAE = _VAE | {"sample_size": 768, "scaling_factor": 0.18215}
SDXL_VAE = _VAE | {"force_upcast": True, "sample_size": 1024, "scaling_factor": 0.13025}
SD3_VAE = _VAE | {
    "force_upcast": True,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}
_CLIP: Config = {
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": PROMPT,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
}
SD21_CLIP = _CLIP | {
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
}
BIG_CLIP = _CLIP | {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
T5: Config = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "dense_act_fn": "gelu_new",
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "num_heads": 64,
    "num_layers": 24,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}
_BETAS: Config = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
}
SD15_SCHEDULER = _BETAS | {
    "_class_name": "PNDMScheduler",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
SD21_SCHEDULER = _BETAS | {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SDXL_SCHEDULER = _BETAS | {
    "_class_name": "EulerDiscreteScheduler",
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
SD3_SCHEDULER: Config = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 3.0,
}

_NARROW_CLIP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "projection_dim": 16,
    "vocab_size": VOCABULARY,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}
_NARROW_UNET = {
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}
_NARROW_VAE = {"block_out_channels": [4, 4, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}

#: For each family, component → (library, class, published config, what is made narrow).
Parts = Mapping[str, tuple[str, str, Config, Config]]


def _clip(config: Config, kind: str = "CLIPTextModelWithProjection", **changes: Any) -> Any:
    return "transformers", kind, config, _NARROW_CLIP | changes


def _vae(config: Config) -> Any:
    return "diffusers", "AutoencoderKL", config, _NARROW_VAE


def _unet(config: Config, **changes: Any) -> Any:
    return "diffusers", "UNet2DConditionModel", config, _NARROW_UNET | changes


SD15: Parts = {
    "text_encoder": _clip(_CLIP, "CLIPTextModel"),
    "unet": _unet(SD15_UNET),
    "vae": _vae(SD_VAE),
}
SD21: Parts = {
    "text_encoder": _clip(SD21_CLIP, "CLIPTextModel"),
    "unet": _unet(SD21_UNET, attention_head_dim=[1, 2, 4, 4]),
    "vae": _vae(SD21_VAE),
}
SDXL: Parts = {
    "text_encoder": _clip(_CLIP, "CLIPTextModel"),
    "text_encoder_2": _clip(BIG_CLIP, hidden_size=24, projection_dim=24),
    "unet": _unet(
        SDXL_UNET,
        addition_time_embed_dim=8,
        attention_head_dim=[1, 2, 4],
        block_out_channels=[8, 8, 16],
        cross_attention_dim=16 + 24,
        projection_class_embeddings_input_dim=6 * 8 + 24,
        transformer_layers_per_block=[1, 1, 2],
    ),
    "vae": _vae(SDXL_VAE),
}
SD3: Parts = {
    "text_encoder": _clip(_CLIP),
    "text_encoder_2": _clip(BIG_CLIP, hidden_size=24, projection_dim=24),
    "text_encoder_3": (
        "transformers",
        "T5EncoderModel",
        T5,
        {"d_ff": 32, "d_kv": 8, "d_model": 48, "num_heads": 2, "num_layers": 2, "vocab_size": 256},
    ),
    "transformer": (
        "diffusers",
        "SD3Transformer2DModel",
        SD3_TRANSFORMER,
        {
            "attention_head_dim": 8,
            "caption_projection_dim": 16,
            "joint_attention_dim": 48,
            "num_attention_heads": 2,
            "num_layers": 2,
            "pooled_projection_dim": 16 + 24,
        },
    ),
    "vae": _vae(SD3_VAE),
}
PIPELINES = {
    "sd15": ("StableDiffusionPipeline", SD15, SD15_SCHEDULER, 1),
    "sd21": ("StableDiffusionPipeline", SD21, SD21_SCHEDULER, 1),
    "sdxl": ("StableDiffusionXLPipeline", SDXL, SDXL_SCHEDULER, 2),
    "sd3": ("StableDiffusion3Pipeline", SD3, SD3_SCHEDULER, 2),
}


def write_family(name: str, folder: Path) -> Path:
    """Write the checkpoint ``name`` of ``PIPELINES`` into ``folder``, new, and return it."""
    pipeline, parts, scheduler, clips = PIPELINES[name]
    index: Config = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    folder.mkdir()
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    for number, (part, (library, kind, published, narrow)) in enumerate(parts.items()):
        torch.manual_seed(number)
        _build(library, kind, published | narrow).save_pretrained(folder / part)
        index[part] = [library, kind]
    for part in ("tokenizer", "tokenizer_2")[:clips]:
        shutil.copytree(TINY / "tokenizer", folder / part)
        change(folder / part / "tokenizer_config.json", model_max_length=PROMPT)
        index[part] = ["transformers", "CLIPTokenizer"]
    if "text_encoder_3" in parts:
        _t5_tokenizer().save_pretrained(folder / "tokenizer_3")
        index["tokenizer_3"] = ["transformers", "T5TokenizerFast"]
    if name == "sdxl":
        index["force_zeros_for_empty_prompt"] = True
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def without_t5(folder: Path) -> Path:
    """Take T5 out of a checkpoint, as diffusers saves one that was loaded without it."""
    for part in ("tokenizer_3", "text_encoder_3"):
        shutil.rmtree(folder / part)
    change(folder / "model_index.json", tokenizer_3=[None, None], text_encoder_3=[None, None])
    return folder


def change(path: Path, **changes: Any) -> None:
    """Overwrite entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _build(library: str, kind: str, config: Config) -> Any:
    if library == "diffusers":
        return getattr(diffusers, kind).from_config(config).eval()
    model: Callable[[Any], Any] = getattr(transformers, kind)
    form = transformers.T5Config if kind.startswith("T5") else transformers.CLIPTextConfig
    return model(form(**config)).eval()


def _t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -2.0) for piece in ["▁", *"abcdefghijklmnopqrstuvwxyz"]]
    kind: Any = transformers.T5Tokenizer
    return kind(vocab=pieces, extra_ids=120)
