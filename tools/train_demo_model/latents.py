"""The pictures as latents: made once, so that the long training never runs the autoencoder."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from . import vae
from .dataset import Pictures
from .files import checkpoint_state, load_checkpoint, save_checkpoint
from .foreign import Autoencoder


def prepare(
    network: Autoencoder,
    pictures: Pictures,
    path: Path,
    digest: str,
    tick: Callable[[int], None],
) -> None:
    """Encode all pictures."""
    latents = vae.encode(network.eval(), pictures.pixels, tick).half()
    save_checkpoint(path, {"latents": latents}, {"digest": digest})


def load(path: Path, digest: str) -> Tensor | None:
    """Read the latents, if this recipe's are there."""
    if checkpoint_state(path).get("digest") != digest:
        return None
    found = load_checkpoint(path)
    return None if found is None else found[0]["latents"]
