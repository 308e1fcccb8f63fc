"""Class names, prompt templates and class embeddings: the zero-shot head of CLIP (Radford et al. 2021, section 3.1.4).

w_c = normalise( mean_t normalise( encode_text( template_t with {} = name_c ) ) )        (C, F)

Instead of templates, each class may have sentences of its own: descriptions, as CuPL has a language model write them
(Pratt et al. 2023) and publishes as `{"class": ["sentence", ...]}`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glom.datasets.class_files import read_class_names
from glom.datasets.prompts import imagenet_templates
from glom.errors import InputError, unknown

IMAGENET_SIZE = 1000
Templates = Sequence[str] | Mapping[str, Sequence[str]]
"""Sentences with one {} for a class's name; or each class's own sentences."""


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 ImageNet names in index order, as edited for CLIP; 'missile' and 'sunglasses' come twice."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def simple_templates() -> tuple[str, ...]:
    """OpenAI's 7 prompts that do nearly as well as the 80, as strings with one `{}`."""
    from open_clip import SIMPLE_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in SIMPLE_IMAGENET_TEMPLATES)


def photo_template() -> tuple[str, ...]:
    """`a photo of a {}.`, CLIP's default prompt."""
    return ("a photo of a {}.",)


TEMPLATE_SETS: dict[str, Callable[[], tuple[str, ...]]] = {
    "photo": photo_template,
    "simple": simple_templates,
    "imagenet": imagenet_templates,
}


def read_class_file(path: str | Path) -> tuple[str, ...]:
    """The names in a file of classes, in order: `glom.datasets.class_files.read_class_names`."""
    return read_class_names(Path(path))


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Prompt templates from a text file, one a line, each with one `{}` for the class name.

    Raises:
        InputError: the file is missing, empty or not UTF-8 text, or a template has no `{}` or several.
    """
    templates = tuple(line.strip() for line in _lines(path, "template"))
    check_templates(templates)
    return templates


def read_descriptions(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Sentences about each class, from a JSON file `{"class": ["sentence", ...]}`, as CuPL's.

    Raises:
        InputError: the file is missing or of another form, or a class has no sentences.
    """
    text = "\n".join(_lines(path, "description"))
    try:
        held = json.loads(text)
    except ValueError as error:
        raise InputError(f"the description file {path} is not JSON ({error})") from None
    if not isinstance(held, dict) or not held:
        raise InputError(f'the description file {path} must be of the form {{"class": ["sentence", ...]}}')
    for name, said in held.items():
        if not isinstance(said, list) or not said or not all(isinstance(x, str) and x.strip() for x in said):
            raise InputError(f"the description file {path} has no list of sentences for '{name}'")
    return {name: tuple(said) for name, said in held.items()}


def choose_templates(name: str) -> Templates:
    """Templates by name - `photo` (1), `simple` (7), `imagenet` (80) - or from a file, one a line.

    A `.json` file holds descriptions instead, see `read_descriptions`.

    Raises:
        InputError: neither a name nor a file, or a faulty template in the file.
    """
    if name in TEMPLATE_SETS:
        return TEMPLATE_SETS[name]()
    if not Path(name).suffix and not Path(name).exists():
        raise unknown("templates", name, TEMPLATE_SETS, "or give a text file")
    return read_descriptions(name) if Path(name).suffix.lower() == ".json" else read_templates(name)


def templates_record(templates: Templates) -> list[str] | dict[str, Any]:
    """What a manifest holds of them: the templates; of descriptions their number and sha256."""
    if not isinstance(templates, Mapping):
        return list(templates)
    said = json.dumps({name: list(x) for name, x in sorted(templates.items())})
    return {"descriptions": count_sentences(templates), "sha256": hashlib.sha256(said.encode()).hexdigest()}


def count_sentences(templates: Templates) -> int:
    """How many sentences there are."""
    return sum(map(len, templates.values())) if isinstance(templates, Mapping) else len(templates)


def _sentences(classes: Sequence[str], templates: Templates) -> list[list[str]]:
    """The sentences of each class. Raises `InputError` for faulty templates, and classes that are not described."""
    if not isinstance(templates, Mapping):
        check_templates(templates)
        return [[template.replace("{}", name) for template in templates] for name in classes]
    own = {plain_name(name): list(said) for name, said in templates.items()}
    lost = [name for name in classes if plain_name(name) not in own]
    if lost:
        raise unknown("described class", lost[0], templates, f"{len(lost)} of {len(classes)} have no description")
    return [own[plain_name(name)] for name in classes]


def _lines(path: str | Path, what: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the {what} file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the {what} file {path} is not UTF-8 text (byte {error.start})") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"the {what} file {path} is empty; write one {what} a line")
    return lines


def check_templates(templates: Sequence[str]) -> None:
    """Raises `InputError` for an empty list, or a template without exactly one `{}`."""
    if isinstance(templates, str) or not templates:
        raise InputError("templates must be a list of at least one sentence such as 'a photo of a {}.'")
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"template '{template}' must have one {{}} where the class name goes")


def check_classes(classes: Sequence[str]) -> None:
    """Raises `InputError` for an empty list, an empty name or a name given twice.

    A list of 1,000 may repeat names, since ImageNet's own do ('crane', 'maillot', 'missile', 'sunglasses').
    """
    if isinstance(classes, str) or not classes:
        raise InputError("the class list must have at least one name")
    for number, name in enumerate(classes):
        if not name.strip():
            raise InputError(f"class {number} of {len(classes)} has an empty name")
    repeated = [name for name, times in Counter(classes).items() if times > 1]
    if repeated and len(classes) != IMAGENET_SIZE:
        raise InputError(f"the class list has '{repeated[0]}' {Counter(classes)[repeated[0]]} times; names must differ")


def class_embeddings(
    encode_text: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Templates = ("a photo of a {}.",),
    batch_size: int = 256,
) -> Tensor:
    """Unit-length class embeddings: fill, encode, normalise, average over templates, normalise again.

    Args:
        encode_text: N sentences -> (N, F), not normalised.
        classes: C names.
        templates: sentences with one `{}` each, or each class's own.
        batch_size: sentences per call of `encode_text`.

    Returns:
        (C, F) float32, on the device of what `encode_text` returns.

    Raises:
        InputError: see `check_classes` and `check_templates`; or a text encoder that returned NaN.
    """
    check_classes(classes)
    lists = _sentences(classes, templates)
    sentences = [sentence for said in lists for sentence in said]
    owners = [number for number, said in enumerate(lists) for _ in said]
    total: Tensor | None = None
    for start in range(0, len(sentences), batch_size):
        batch = sentences[start : start + batch_size]
        embedded = torch.nn.functional.normalize(encode_text(batch).float(), dim=-1)
        if total is None:
            total = embedded.new_zeros(len(classes), embedded.shape[-1])
        owner = torch.tensor(owners[start : start + len(batch)], device=embedded.device)
        total.index_add_(0, owner, embedded)
    assert total is not None
    if not bool(torch.isfinite(total).all()):
        raise InputError("the text encoder returned NaN or Inf; its weights are damaged or the precision is too low")
    # The mean and the sum over templates point the same way, so the last normalisation makes them equal.
    return torch.nn.functional.normalize(total, dim=-1)


def select_rows(wanted: Sequence[str], known: Sequence[str]) -> list[int]:
    """The rows of a classifier with classes `known` that stand for the names `wanted`.

    By position where the lists are equal, and where both are the 1,000 of ImageNet in standard order however spelled
    (as a plain word-net list and CLIP's edited one differ); otherwise by name, ignoring case and underscores.

    Raises:
        InputError: names the classifier does not have (with the nearest it has), names it has twice, names given
            twice, or 1,000 names that are ImageNet's in another order and cannot all be told apart.
    """
    check_classes(wanted)
    if list(wanted) == list(known):
        return list(range(len(known)))
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(known):
        rows.setdefault(plain_name(name), []).append(row)
    found = [rows.get(plain_name(name), []) for name in wanted]
    if all(len(hits) == 1 for hits in found) and len({hits[0] for hits in found}) == len(found):
        return [hits[0] for hits in found]
    if len(wanted) == len(known) == IMAGENET_SIZE:
        told = [(position, hits[0]) for position, hits in enumerate(found) if len(hits) == 1]
        # Spelling moves a few names onto others ('crane' the bird, 'crane' the machine); another order moves most.
        # With hardly a name in common, the two are not lists of the same classes.
        if len(told) >= IMAGENET_SIZE // 10 and 2 * sum(position == row for position, row in told) >= len(told):
            return list(range(IMAGENET_SIZE))
        if len(told) < IMAGENET_SIZE // 10:
            raise InputError(f"only {len(told)} of the 1,000 class names are among the classifier's 1,000")
        raise InputError("the 1,000 class names are not in ImageNet's standard order; sort them by index")
    for name, hits in zip(wanted, found, strict=True):
        if not hits:
            raise unknown("class", name, known, f"the classifier has {len(known)} classes")
        if len(hits) > 1:
            raise InputError(f"class '{name}' is ambiguous: the classifier has it {len(hits)} times, in rows {hits}")
    twice = [name for name, times in Counter(map(plain_name, wanted)).items() if times > 1]
    raise InputError(f"the class list has '{twice[0]}' more than once; names must differ")


def plain_name(name: str) -> str:
    """A class name as it is compared: case, underscores and further blanks play no part."""
    return " ".join(name.replace("_", " ").casefold().split())
