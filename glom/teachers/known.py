"""What models were trained on: the classes they can tell apart and the kind of picture they have seen.

The one place that says it of the models that ship. Asked outside of it a model answers all the same, and as surely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from glom.teachers.registry import LITE
from glom.teachers.zero_shot import imagenet_classes, plain_name

# CIFAR-10's classes (Krizhevsky 2009), and the further words that glom-tiny read for each of them.
CIFAR10: dict[str, tuple[str, ...]] = {
    "airplane": ("airplane", "plane", "aircraft", "jet"),
    "automobile": ("automobile", "car", "sedan"),
    "bird": ("bird", "small bird"),
    "cat": ("cat", "kitten", "house cat"),
    "deer": ("deer", "stag", "fawn"),
    "dog": ("dog", "puppy", "hound"),
    "frog": ("frog", "toad"),
    "horse": ("horse", "pony", "stallion"),
    "ship": ("ship", "boat", "vessel"),
    "truck": ("truck", "lorry", "pickup truck"),
}
LEAST = 3  # a picture this many times smaller than the training pictures is no longer like them
COLOURED = 4.0  # mean difference of the largest and the smallest channel, of 255: above it a picture has colours


@dataclass(frozen=True)
class Known:
    """What a model was trained on.

    Attributes:
        model: as messages call it.
        classes: returns the names of its classes, in order.
        source: whose classes they are.
        colour: whether its training pictures had colours.
        size: side of the square it was trained on, in pixels.
        most: the longest shorter side of a picture that is still like them; None where they were of any size.
        words: all the words that were read for each class; None: the names alone.
        data: a data set that ships and has these classes in this order, or "".
    """

    model: str
    classes: Callable[[], tuple[str, ...]]
    source: str
    colour: bool
    size: int
    most: int | None
    words: Mapping[str, Sequence[str]] | None = None
    data: str = ""

    @property
    def pictures(self) -> str:
        """The training pictures in a few words."""
        return f"{'colour photographs' if self.colour else 'grey pictures'} of {self.size}x{self.size}"

    def foreign(self, names: Sequence[str]) -> list[str]:
        """Those of some class names that it was not trained on; compared as `plain_name` does."""
        own = self.words or {name: (name,) for name in self.classes()}
        words = {plain_name(word) for synonyms in own.values() for word in synonyms}
        return [name for name in names if plain_name(name) not in words]


SHIPPED_MODELS = {
    "glom-tiny": Known(
        "glom-tiny", lambda: tuple(CIFAR10), "CIFAR-10", True, 32, 3 * 32, words=CIFAR10, data="cifar10-sample"
    ),
    **{name: Known(name, imagenet_classes, "ImageNet", True, side, None) for name, side in LITE.items()},
}


def has_colours(image: Image.Image) -> bool:
    """Whether a picture has colours: a grey one stored as RGB has none."""
    small = image.convert("RGB")
    small.thumbnail((64, 64))
    pixels = small.tobytes()
    spread = [max(pixels[i : i + 3]) - min(pixels[i : i + 3]) for i in range(0, len(pixels), 3)]
    return sum(spread) > COLOURED * len(spread)


def unlike(known: Known, pictures: Sequence[tuple[str, Image.Image]]) -> list[str]:
    """What sets pictures apart from those a model was trained on, in a sentence; nothing where any one is alike.

    Args:
        pictures: (name, picture) each. One picture may be named, several are spoken of as all of them.
    """
    if not pictures:
        return []
    images = [image for _, image in pictures]
    found = []
    colours = [has_colours(image) for image in images]
    if not known.colour and all(colours):
        found.append("in colour")
    if known.colour and not any(colours):
        found.append("grey")
    sides = [min(image.size) for image in images]
    if (known.most is not None and min(sides) > known.most) or max(sides) * LEAST < known.size:
        sizes = sorted({image.size for image in images})
        found.append(" to ".join(f"{width}x{height}" for width, height in (sizes[:1] + sizes[1:][-1:])))
    if not found:
        return []
    what = f"{pictures[0][0]} is" if len(pictures) == 1 else "the pictures here are"
    return [f"{known.model} was trained on {known.pictures}; {what} {' and '.join(found)}"]
