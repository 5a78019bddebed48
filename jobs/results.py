"""What a finished job says of itself: where its outputs lie, and the figures measured."""

from pydantic import BaseModel, ConfigDict, Field

from jobs.specs import Sha256


class Output(BaseModel):
    """One object in the bucket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: Sha256
    size: int = Field(ge=0)
    """Bytes."""


class Result(BaseModel):
    """The end of a job that succeeded."""

    # Neither JSON nor PostgreSQL knows NaN: a round trip that blew up is a failure, not a figure.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    outputs: dict[str, Output]
    """By role: `latents` (the stored inversion), `image` (the edit or reconstruction), `sidecar`
    (its recipe as JSON), `thumbnail` (a WebP of at most 256 pixels), `mask` (what a masked edit
    could change)."""
    model_revision: str
    fingerprint: str
    """Device, library versions, dtype and batch shape that the inversion's bits depend on."""
    generation_fingerprint: str | None = None
    """The same of the generation, which may have run elsewhere; None where there was none."""
    exact: bool | None = None
    """Whether the round trip gave back the very same integers; None where it was not tried."""
    max_error: float | None = None
    """Largest difference of a latent after the round trip, in latent units."""
    psnr: float | None = None
    """Result against the prepared source image, in dB; None where they are equal."""
    similarity: float | None = None
    """SSIM (Wang et al., 2004) of result and prepared source image; 1 where they are equal."""
    mask_area: float | None = Field(default=None, ge=0, le=1)
    """Share of the image that a masked edit could change; None where there was no mask."""
    inversion_reused: bool = False
    """Whether the noise was found in the bucket or shared with another job of the shard."""
    seconds: dict[str, float] = {}
    """Wall time by phase."""
    pruned: tuple[str, ...] = ()
    """Roles of outputs that were deleted since, by a retention policy."""
