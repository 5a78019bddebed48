"""The model card. Every figure in it comes from `figures.json`; nothing is typed by hand."""

from pathlib import Path
from string import Template

from .editing import Settings
from .evaluation import ColourFigures, Figures, StyleFigures
from .recipe import Recipe

TEMPLATE = Path(__file__).with_name("card.md")


def write(figures: Figures, recipe: Recipe, settings: Settings, size: int) -> str:
    """Fill the card in."""
    colour, kept, everywhere = figures.colour, figures.colour_kept, figures.colour_everywhere
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        size=recipe.size,
        latent=f"{recipe.size // 4}x{recipe.size // 4}x{recipe.vae_shape.latent_channels}",
        megabytes=f"{size / 1e6:.1f}",
        held_out=recipe.held_out,
        vae_steps=f"{recipe.vae.steps:,}",
        decoder_steps=f"{recipe.decoder.steps:,}",
        vae_batch=recipe.vae.batch,
        unet_steps=f"{recipe.unet.steps:,}",
        unet_batch=recipe.unet.batch,
        prediction=recipe.prediction.replace("_prediction", ""),
        weight_limit=f"{recipe.weight_limit:g}",
        seed=recipe.seed,
        steps=settings.steps,
        strength=settings.strength,
        guidance=settings.guidance,
        guided=_guided(settings.guided_from),
        mix=settings.mix,
        vae_psnr=f"{figures.vae_psnr:.1f}",
        worst=f"{figures.vae_psnr_worst_tenth:.1f}",
        photographs=figures.photographs,
        round_trips=figures.round_trips,
        **{f"mse_{name}": f"{value:.4f}" for name, value in vars(figures.errors).items()},
        local_guidance=settings.local_guidance,
        colour_row=_colour_row("colour of the object, in the mask that is found", colour),
        kept_row=_colour_row("the same, with the photograph's own pixels around the mask", kept),
        everywhere_row=_colour_row("colour of the object, without a mask", everywhere),
        style_rows=_rows(figures.styles),
        unseen_rows=_rows(figures.unseen),
        inside=f"{colour.inside:.3f}",
        outside=f"{colour.outside:.3f}",
        inside_kept=f"{kept.inside:.3f}",
        outside_kept=f"{kept.outside:.3f}",
        inside_everywhere=f"{everywhere.inside:.3f}",
        outside_everywhere=f"{everywhere.outside:.3f}",
        others=f"{figures.layout_of_others:.2f}",
        seconds=f"{figures.seconds_per_edit:.1f}",
        seconds_local=f"{figures.seconds_per_local_edit:.1f}",
    )


def _guided(share: float) -> str:
    if share == 0:
        return "on all timesteps"
    return f"on the timesteps above {share:.0%} and none below"


def _rows(styles: dict[str, StyleFigures]) -> str:
    return "\n".join(_row(name, s.edited, s.unedited, s.layout) for name, s in styles.items())


def _colour_row(name: str, colour: ColourFigures) -> str:
    return _row(name, colour.edited, colour.unedited, colour.layout)


def _row(name: str, edited: object, unedited: object, layout: float) -> str:
    return f"| {name} | {edited} | {unedited} | {layout:.2f} |"
