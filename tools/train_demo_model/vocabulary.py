"""The words: folder names of the two data sets, colours, and nouns that stand for anything."""

from dataclasses import dataclass

from edict_engine.quality.words import HUES

__all__ = ["ANY_NOUN", "CLOTHING", "HUES", "PRODUCE", "SINGULAR", "Kind"]


@dataclass(frozen=True)
class Kind:
    """What the photographs of one folder show."""

    noun: str
    category: str
    #: The colour word that is true of the whole folder; None where the folder says nothing.
    colour: str | None = None
    #: The hue the object has, where its colour tells it from the background.
    hue: float | None = None


def _produce(text: str) -> dict[str, Kind]:
    """Read lines of `folder | noun | category | colour or - | hue or -`."""
    kinds = {}
    for line in text.strip().splitlines():
        folder, noun, category, colour, hue = (field.strip() for field in line.split("|"))
        kinds[folder] = Kind(
            noun, category, None if colour == "-" else colour, None if hue == "-" else float(hue)
        )
    return kinds


# Folders between two colour words (yellow-green pears, apples and mangos) get no colour word:
# a word that is wrong half of the time teaches a muddy colour.
PRODUCE: dict[str, Kind] = _produce("""
Golden-Delicious    | apples         | fruit      | -      | 62
Granny-Smith        | apples         | fruit      | green  | 78
Pink-Lady           | apples         | fruit      | -      | 0
Red-Delicious       | apples         | fruit      | red    | 0
Royal-Gala          | apples         | fruit      | red    | 10
Avocado             | avocados       | fruit      | green  | -
Banana              | bananas        | fruit      | yellow | 48
Kiwi                | kiwis          | fruit      | brown  | 30
Lemon               | lemons         | fruit      | yellow | 50
Lime                | limes          | fruit      | green  | 75
Mango               | mangos         | fruit      | -      | 60
Cantaloupe          | melons         | fruit      | -      | -
Galia-Melon         | melons         | fruit      | yellow | 42
Honeydew-Melon      | melons         | fruit      | yellow | 50
Watermelon          | watermelons    | fruit      | green  | -
Nectarine           | nectarines     | fruit      | red    | 8
Orange              | oranges        | fruit      | orange | 28
Papaya              | papayas        | fruit      | green  | -
Passion-Fruit       | passion fruits | fruit      | -      | -
Peach               | peaches        | fruit      | -      | 15
Anjou               | pears          | fruit      | -      | 65
Conference          | pears          | fruit      | -      | 58
Kaiser              | pears          | fruit      | brown  | 30
Pineapple           | pineapples     | fruit      | brown  | -
Plum                | plums          | fruit      | purple | -
Pomegranate         | pomegranates   | fruit      | red    | 5
Red-Grapefruit      | grapefruits    | fruit      | orange | 25
Satsumas            | satsumas       | fruit      | orange | 28
Asparagus           | asparagus      | vegetables | green  | 70
Aubergine           | aubergines     | vegetables | purple | -
Cabbage             | cabbages       | vegetables | green  | 75
Carrots             | carrots        | vegetables | orange | 20
Cucumber            | cucumbers      | vegetables | green  | 90
Garlic              | garlic         | vegetables | white  | -
Ginger              | ginger         | vegetables | brown  | -
Leek                | leeks          | vegetables | green  | -
Brown-Cap-Mushroom  | mushrooms      | vegetables | brown  | -
Mushroom            | mushrooms      | vegetables | white  | -
Yellow-Onion        | onions         | vegetables | -      | 32
Green-Bell-Pepper   | peppers        | vegetables | green  | 100
Orange-Bell-Pepper  | peppers        | vegetables | orange | 22
Red-Bell-Pepper     | peppers        | vegetables | red    | 0
Yellow-Bell-Pepper  | peppers        | vegetables | yellow | 46
Floury-Potato       | potatoes       | vegetables | brown  | -
Solid-Potato        | potatoes       | vegetables | yellow | 38
Sweet-Potato        | sweet potatoes | vegetables | brown  | -
Red-Beet            | beets          | vegetables | purple | -
Beef-Tomato         | tomatoes       | vegetables | red    | 5
Regular-Tomato      | tomatoes       | vegetables | red    | 5
Vine-Tomato         | tomatoes       | vegetables | red    | 2
Zucchini            | zucchinis      | vegetables | green  | -
""")

# A garment's colour is seen, not told by its folder: see `masks.garment`.
CLOTHING: dict[str, Kind] = {
    "dress": Kind("dress", "clothes"),
    "hat": Kind("hat", "clothes"),
    "longsleeve": Kind("sweater", "clothes"),
    "outwear": Kind("jacket", "clothes"),
    "pants": Kind("trousers", "clothes"),
    "shirt": Kind("shirt", "clothes"),
    "shoes": Kind("shoes", "clothes"),
    "shorts": Kind("shorts", "clothes"),
    "skirt": Kind("skirt", "clothes"),
    "t-shirt": Kind("t-shirt", "clothes"),
}

#: Garments that take "a".
SINGULAR = {"dress", "hat", "sweater", "jacket", "shirt", "skirt", "t-shirt"}

# Put in place of the true noun now and then. They say nothing about the picture, so the model
# learns to pass over nouns it cannot draw and still obey the style, light and colour beside them.
ANY_NOUN: tuple[str, ...] = (
    *("a thing", "things", "an object", "objects", "a scene", "a texture", "a pattern"),
    *("a cat", "cats", "a dog", "an animal", "a bird", "a horse", "a face", "hands"),
    *("a person", "people", "a man", "a woman", "an astronaut", "a rocket", "a car"),
    *("a cup", "a cup of coffee", "coffee", "a bowl", "a plate", "a bottle", "food"),
    *("a table", "a chair", "a room", "a bag", "a toy", "a book", "a page", "a camera"),
    *("a house", "a building", "a street", "a city", "a wall", "bricks", "stones", "gravel"),
    *("a tree", "trees", "a flower", "flowers", "grass", "a garden", "a landscape"),
    *("the sky", "clouds", "the moon", "a mountain", "the sea", "a beach", "a boat"),
    *("coins", "a clock", "a motorcycle", "a bicycle"),
)
