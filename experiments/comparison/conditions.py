"""What a benchmark compares on which pictures, all of it opened and made once before the first answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.untouched import UNTOUCHED, untouched
from glom.datasets.base import ImageDataset
from glom.datasets.corruptions import Corruption, parse_corruption
from glom.datasets.registry import open_dataset
from glom.devices import resolve_device
from glom.errors import InputError
from glom.methods import Method, Task, make_method
from glom.methods.base import kind_of
from glom.methods.few_shot import Learning, check_classes, few_shot
from glom.methods.views import ViewCache
from glom.teachers.align import gathered, imagenet_members, name_rows, nameable
from glom.teachers.base import Teacher
from glom.teachers.corrupted import CROP
from glom.teachers.registry import load_teacher
from glom.teachers.superclasses import Superclasses
from glom.teachers.zero_shot import plain_name

Classes = tuple[tuple[str, ...], tuple[str, ...] | None, str]
"""Class names, what they are called on disk, and the kind of data: conditions that agree in these share methods."""


@dataclass(frozen=True)
class Condition:
    """One data set under one corruption, applied at `corrupt`; `spec` is what opened it.

    `out_of`: the condition to which these pictures, without labels, are the unknowns.
    """

    name: str
    spec: str
    dataset: ImageDataset
    corruption: Corruption | None
    corrupt: str = CROP
    out_of: str = ""


def open_conditions(settings: BenchmarkSettings, teacher: Teacher | None = None) -> list[Condition]:
    """Every data set under every corruption, opened before the first hour is spent.

    Args:
        teacher: whose classes decide which of the data sets' are nameable; without one all are taken to be.

    Raises:
        InputError: a data set that cannot be opened, or has no labels.
    """
    found = []
    named = Path(settings.classes) if settings.classes else None
    for spec in settings.data:
        dataset = open_dataset(spec, split=settings.split, classes_file=named)
        dataset = dataset if teacher is None else nameable(dataset, teacher, settings.nameable)
        if settings.pictures == UNTOUCHED:
            dataset = untouched(dataset)
        if settings.limit:
            dataset = dataset.limit(settings.limit)
        if any(s.label is None for s in dataset.samples):
            raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
        for corruption in settings.corruptions:
            place = "-".join(Path(dataset.name).parts[-2:])
            name = f"{place}-{corruption.replace(':', '-')}" if corruption else place
            kind = parse_corruption(corruption) if corruption else None
            found.append(Condition(name, spec, dataset, kind, settings.corrupt))
    if len({c.name for c in found}) < len(found):
        raise InputError("two data sets have the same name; give their folders different ones")
    return found


def open_out_set(
    settings: BenchmarkSettings, conditions: Sequence[Condition], table: Superclasses | None = None
) -> list[Condition]:
    """The out-set under each condition's corruption, without labels, to be answered with the condition's classes.

    Args:
        table: superclasses by which the conditions' classes are more than their names say.

    Raises:
        InputError: it cannot be opened, has no class names, or shares classes with a condition's data set: by name, or
            as both are the same of ImageNet's.
    """
    if not settings.out_set:
        return []
    opened = open_dataset(settings.out_set, split=settings.split)
    opened = opened.limit(settings.limit) if settings.limit else opened
    own = {plain_name(name) for name in (*(opened.classes or ()), *(opened.keys or ()))}
    if not own:
        raise InputError(f"the out-set {opened.name} has no class names, so nobody can tell whether they are others")
    found, seen = [], {sample.label for sample in opened.samples}
    strange = imagenet_members(opened, table)
    strange = {n: strange[n] for label, n in enumerate(opened.classes or ()) if label in seen and n in strange}
    for condition in conditions:
        known = condition.dataset
        shared = [name for name in (*(known.classes or ()), *(known.keys or ())) if plain_name(name) in own]
        for name, members in () if shared else imagenet_members(known, table).items():
            shared += [f"{other} is a {name}" for other, its in strange.items() if members & its]
        if shared:
            some = ", ".join([*dict.fromkeys(shared)][:3]) + (", ..." if len(shared) > 3 else "")
            raise InputError(f"the out-set {opened.name} shares classes with {known.name} ({some}); name one of others")
        unlabelled = tuple(replace(sample, label=None) for sample in opened.samples)
        dataset = replace(
            known,
            samples=unlabelled,
            other_labels={},
            name=opened.name,
            passed_over=opened.passed_over,
            notes=opened.notes,
        )
        name = f"{condition.name}-unknown"
        found.append(replace(condition, name=name, spec=settings.out_set, dataset=dataset, out_of=condition.name))
    return found


def class_names(condition: Condition, teacher: Teacher) -> tuple[str, ...]:
    """The data set's class names, or the classifier's own. Raises `InputError` where neither has any."""
    classes = condition.dataset.classes or teacher.classes
    if classes is None:
        raise InputError(f"{condition.dataset.name} has no class names")
    return tuple(classes)


def base_task(settings: BenchmarkSettings, kept: Path | None = None) -> Task:
    """What all conditions share: the teachers, loaded, and what was made of their pictures, on the disk in `kept`."""
    where = resolve_device(settings.device)

    def loaded(name: str) -> Teacher:
        teacher = load_teacher(name, device=str(where))
        name_rows(teacher, settings.classes)
        return gathered(teacher, settings.superclasses)

    task = Task(loaded(settings.teacher), (), where, settings.seed, settings.mae, settings.preset)
    second = loaded(settings.second) if settings.second else None
    return replace(task, views=ViewCache(folder=kept), second=second, augment=settings.augment)


def task_of(condition: Condition, base: Task) -> Task:
    """`base` on the condition's classes. Raises `InputError` where it has no class names."""
    return replace(base, classes=class_names(condition, base.teacher), dataset=condition.dataset)


def classes_of(condition: Condition, base: Task) -> Classes:
    """What conditions have in common that share their methods."""
    return class_names(condition, base.teacher), condition.dataset.keys, kind_of(condition.dataset)


def make_all(
    settings: BenchmarkSettings, conditions: Sequence[Condition], base: Task
) -> tuple[dict[tuple[str, Classes], Method], Learning | None]:
    """Make every method for every set of classes, so that a wrong request is refused before the first answer.

    Returns:
        The methods of the first condition's classes, by name and classes; those of others are let go, as some hold a
        copy of a network, and made again when it is their turn. And the labelled pictures, None where no method needs
        any.

    Raises:
        InputError: a method that cannot be made, or labelled pictures that are missing, tested on or of other classes.
    """
    first, seen = classes_of(conditions[0], base), set()
    made: dict[tuple[str, Classes], Method] = {}
    learning: Learning | None = None
    for condition in conditions:
        classes = classes_of(condition, base)
        if classes in seen:
            continue
        seen.add(classes)
        task = task_of(condition, base)
        for name in settings.methods:
            method = make_method(name, task, bool(settings.train))
            if method.needs_shots:
                tested = list({id(c.dataset): c.dataset for c in conditions}.values())
                # Prompts that are transferred keep the classes they were learned on.
                named = Path(settings.classes) if settings.classes and not settings.transfer else None
                left_out, exactly = settings.nameable and method.reads_labels, method.reads_labels
                source = settings.train, settings.shots, task, tested, named
                learning = learning or few_shot(*source, left_out, exactly)
                check_classes(learning, method, condition.dataset.name, settings.transfer)
            if classes == first:
                made[name, classes] = method
    return made, learning
