"""Where things lie in the bucket: every key follows from what it holds.

| prefix | holds | named by |
|---|---|---|
| `sources/` | images as they were submitted | SHA-256 of the bytes |
| `inversions/` | latent pairs (safetensors) | what decides the noise (`inversion_key`) |
| `results/` | edited and reconstructed images | job, then SHA-256 of the bytes |
| | their recipes (`.json`) | as the image that they are about |
| | their thumbnails (`.webp`) | SHA-256 of the bytes |

A key is written at most once with one content, so that writing it again is harmless and a worker
that was presumed dead can overwrite nothing.
"""

import hashlib
from uuid import UUID

from jobs.specs import Spec, digest_of

LATENT_FORMAT = 1
"""Version of the numeric format of stored latent pairs; part of every inversion's key."""


def source_key(data: bytes, suffix: str) -> str:
    """Key of an uploaded image; `suffix` is its file type, such as `png`."""
    return f"sources/{_fanned(sha256(data))}.{suffix}"


def inversion_key(spec: Spec, model_revision: str) -> str:
    """Key of the latent pair that this spec asks for, from the model at exactly this revision."""
    recipe = spec.inversion_recipe()
    recipe["model"] = {"name": spec.model.name, "revision": model_revision}
    recipe["latent_format"] = LATENT_FORMAT
    return f"inversions/{_fanned(digest_of(recipe))}.safetensors"


def result_key(job_id: UUID, data: bytes, suffix: str) -> str:
    """Key of a job's result with these bytes."""
    return f"results/{job_id}/{sha256(data)[:32]}.{suffix}"


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def _fanned(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:4]}/{digest}"
