"""Prompts published for each data set: CLIP's lists to average over, and the one sentence that CoOp wrote by hand.

CLIP's are those of Radford et al. 2021 (section 3.1.4; the authors' `data/prompts.md`), and of ImageNet and what is
drawn from it the 80 of their notebook. The single sentences are those of Zhou et al. 2022 ("Learning to Prompt for
Vision-Language Models", appendix A), which the tables of test-time prompt tuning start from.
"""

from __future__ import annotations

from glom.errors import unknown


def _objects_small() -> tuple[str, ...]:
    kinds = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
    return tuple(
        sentence
        for article in ("a", "the")
        for sentence in (
            *(f"a {kind}photo of {article} {{}}." for kind in kinds),
            f"a photo of {article} small {{}}.",
            f"a photo of {article} big {{}}.",
        )
    )


def _caltech() -> tuple[str, ...]:
    pictures = ["a photo", "a painting", "a sculpture", "a sketch", "a tattoo", "a rendition", "art", "graffiti"]
    pictures += ["a drawing", "a doodle"]
    things = ("plastic {}", "toy {}", "embroidered {}", "cartoon {}", "{} in a video game", "plushie {}", "origami {}")
    return tuple(
        sentence
        for article in ("a", "the")
        for sentence in (
            *(f"{picture} of {article} {{}}." for picture in pictures),
            *(f"{article} {thing}." for thing in things),
        )
    )


def _actions() -> tuple[str, ...]:
    doing = ("", " using", " doing", " during", " performing", " practicing")
    return tuple(
        f"a {picture} of {article} person{verb} {{}}."
        for verb in doing
        for article in ("a", "the")
        for picture in ("photo", "video", "example", "demonstration")
    )


A_PHOTO = "a photo of a {}."
A_AND_THE = (A_PHOTO, "a photo of the {}.")
KINDS = ("texture", "pattern", "thing", "object")
TEXTURE = tuple(f"a photo of {article} {{}} {kind}." for article in ("a", "the") for kind in KINDS)

# data set -> CLIP's templates; what is drawn from ImageNet is not here, its 80 come with open_clip.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "cifar10": _objects_small(),
    "cifar100": _objects_small(),
    "mnist": ('a photo of the number: "{}".',),
    "fashion-mnist": ("a photo of a {}, a type of clothing.",),  # none published
    "stl10": A_AND_THE,
    "flowers102": ("a photo of a {}, a type of flower.",),
    "dtd": TEXTURE,
    "oxford-pets": ("a photo of a {}, a type of pet.",),
    "ucf101": _actions(),
    "caltech101": _caltech(),
    "food101": ("a photo of {}, a type of food.",),
    "sun397": A_AND_THE,
    "fgvc-aircraft": ("a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft."),
    "eurosat": tuple(f"a centered satellite photo of {article}{{}}." for article in ("", "a ", "the ")),
}

# data set -> CoOp's sentence, where it is another than "a photo of a {}."
PROMPTS: dict[str, str] = {
    "oxford-pets": "a photo of a {}, a type of pet.",
    "flowers102": "a photo of a {}, a type of flower.",
    "fgvc-aircraft": "a photo of a {}, a type of aircraft.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "food101": "a photo of {}, a type of food.",
    "ucf101": "a photo of a person doing {}.",
}
# Data sets whose pictures others come from.
SAME_AS = {"cifar10-c": "cifar10", "cifar100-c": "cifar100", "cifar10-sample": "cifar10"}


def imagenet_templates() -> tuple[str, ...]:
    """OpenAI's 80 ImageNet prompts, as strings with one `{}`."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def clip_templates(name: str) -> tuple[str, ...]:
    """CLIP's templates of a data set, each with one `{}`.

    Args:
        name: a registered name with class names; of a corrupted set with or without `/CORRUPTION/SEVERITY`.

    Raises:
        InputError: a name without templates.
    """
    head = SAME_AS.get(base_name(name), base_name(name))
    if head in TEMPLATES:
        return TEMPLATES[head]
    if head.startswith("imagenet"):
        return imagenet_templates()
    raise unknown("data set with templates", name, TEMPLATES)


def coop_prompt(name: str) -> str:
    """CoOp's one sentence for a data set, with one `{}`.

    Example:
        >>> coop_prompt("dtd"), coop_prompt("imagenet-c/fog/5")
        ('{} texture.', 'a photo of a {}.')
    """
    return PROMPTS.get(base_name(name), A_PHOTO)


def base_name(name: str) -> str:
    """`imagenet-c` of `imagenet-c/fog/5:ROOT`."""
    return name.partition(":")[0].partition("/")[0]
