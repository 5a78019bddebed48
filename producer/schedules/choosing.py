"""Which images a firing is about: new ones, changed ones, and those that are out of date."""

from jobs.keys import sha256
from jobs.schedules import Item, Reason, Template
from producer.schedules.listing import SourceRow


def item_of(row: SourceRow, template: Template, revision: str | None) -> Item:
    """What is to be remembered of an image once it is submitted."""
    return Item(
        item=sha256(row.image.encode("utf-8", "surrogatepass")),
        stamp=row.stamp,
        recipe=template.recipe(row.base, row.edits),
        model_revision=revision,
    )


def reasons_for(known: Item | None, now: Item) -> frozenset[Reason]:
    """Why an image as it is now differs from what the schedule knows of it.

    Where a revision is unknown, as no worker had ever been seen, it counts as the same.
    """
    if known is None:
        return frozenset({Reason.NEW})
    differs = {
        Reason.CHANGED: known.stamp != now.stamp,
        Reason.RECIPE: known.recipe != now.recipe,
        Reason.MODEL: None not in (known.model_revision, now.model_revision)
        and known.model_revision != now.model_revision,
    }
    return frozenset(reason for reason, true in differs.items() if true)


def seen(known: Item | None, now: Item, reasons: frozenset[Reason]) -> Item | None:
    """What to remember of an image that is not submitted; None: nothing new.

    A difference that the schedule does not ask for is remembered as it was, so that it counts
    should the schedule ask later; but an image must be known before it can change.
    """
    if known is None:
        return now
    if known.model_revision is None and now.model_revision is not None and not reasons:
        return now
    return None
