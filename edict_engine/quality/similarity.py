"""CLIP similarity (Radford et al., 2021): whether an image shows what a prompt says.

The model comes from a folder on this machine, as safetensors; nothing is downloaded.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from edict_engine.errors import ModelNotFound, ModelNotUsable
from edict_engine.images import resize, to_pixels

#: Mean and spread of the channels that CLIP was trained on, in 0..1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A CLIP model, for any number of threads."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelNotFound(f"{folder} is no folder: give one that a CLIP model was saved to")
        self._model, self._tokenizer = _load(folder)
        self._size: int = self._model.config.vision_config.image_size
        self._tokens: int = self._model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def similarity(self, image: Image.Image, prompt: str) -> float:
        """Cosine of the angle between the embeddings of ``image`` and ``prompt``, in -1..1.

        The image's centre square is scaled to the model's size; a longer prompt than CLIP's is cut.
        """
        tokens = self._tokenizer(
            prompt, truncation=True, max_length=self._tokens, return_tensors="pt"
        )
        output = self._model(pixel_values=self._pixels(image), **tokens)
        one, other = output.image_embeds[0], output.text_embeds[0]
        return torch.nn.functional.cosine_similarity(one, other, dim=0).item()

    def _pixels(self, image: Image.Image) -> Tensor:
        unit = (to_pixels(resize(image, size=self._size)) + 1) / 2
        mean, spread = (torch.tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        return ((unit - mean) / spread)[None]


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPTokenizer  # takes seconds to import

    kind: Any = CLIPModel
    try:
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelNotUsable(
            f"{folder} is no CLIP model with safetensors weights ({error}): save one there"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise ModelNotUsable(
            f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} among them: "
            "copy the model again"
        )
    return model.eval().requires_grad_(False), tokenizer
