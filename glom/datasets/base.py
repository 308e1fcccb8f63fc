"""What a data set is: named samples with stable ids, read one at a time, and a fingerprint of all of them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from PIL import Image

from glom.datasets.sources import Source
from glom.errors import InputError
from glom.runs.files import key_bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and its label.

    Attributes:
        id: stable within the data set, a relative path with forward slashes.
        label: index into the data set's classes, or None.
        source: where the pixels lie.
    """

    id: str
    label: int | None
    source: Source = field(repr=False, compare=False)

    def image(self, max_pixels: int | None = None) -> Image.Image:
        """The picture, upright RGB. Raises `InputError` where it cannot be read, so that a run can skip it."""
        return self.source.image(max_pixels)


@dataclass(frozen=True)
class ImageDataset:
    """Samples in the order of their ids.

    Attributes:
        name: what it is called in tables.
        samples: every sample; sorted by id at construction, whatever order they came in.
        classes: C class names, or None where there are none.
        templates: prompts with one `{}` that suit these classes, or None for a general set.
        keys: what the classes are called on disk (folder names, wnids), in the order of `classes`, or None.
        passed_over: what was found beside the samples and is no part of the data set -> how often, such as
            {".heic files": 2, "empty folders": 1}.
        notes: what else a person should know of how it was read, one sentence each.
        other_labels: what else a picture shows, by name -> {id: index into the classes}: of cue-conflict pictures the
            "texture", which is another class's than the shape that `Sample.label` tells. Not part of the fingerprint.

    Raises:
        InputError: no samples, two samples of one id, or a label outside the classes.
    """

    name: str
    samples: tuple[Sample, ...] = field(repr=False)
    classes: tuple[str, ...] | None = field(default=None, repr=False)
    templates: tuple[str, ...] | None = field(default=None, repr=False)
    keys: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    passed_over: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)
    other_labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.samples:
            raise InputError(f"{self.name}: no images")
        ordered = tuple(sorted(self.samples, key=lambda sample: sample.id))
        for one, other in pairwise(ordered):
            if one.id == other.id:
                raise InputError(f"{self.name}: '{one.id}' is listed twice; every sample needs an id of its own")
        for sample in ordered:
            if sample.label is None or self.classes is None:
                continue
            if not 0 <= sample.label < len(self.classes):
                raise InputError(
                    f"{self.name}: '{sample.id}' has label {sample.label}, but there are {len(self.classes)} classes"
                )
        object.__setattr__(self, "samples", ordered)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    @property
    def labelled(self) -> bool:
        """Whether every sample has a label."""
        return all(sample.label is not None for sample in self.samples)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Its notes, and one sentence that counts what was passed over."""
        counted = ", ".join(f"{kind} ({count:,})" for kind, count in self.passed_over.items() if count)
        return (*self.notes, f"passed over: {counted}") if counted else self.notes

    def fingerprint(self) -> str:
        """sha256 over the classes and every sample's id, label and content, in hex.

        The same data in another place, or listed in another order, have the same fingerprint. Computed once.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for sample in self.samples:
            digest.update(json.dumps([sample.id, sample.label, sample.source.digest()]).encode() + b"\n")
        return digest.hexdigest()

    def limit(self, n: int | None, seed: int | None = None) -> ImageDataset:
        """At most `n` samples, spread evenly over the classes: class counts differ by one where the data allow it.

        The selection depends on ids and labels alone and is nested: that of a smaller `n` is part of that of a larger.
        Within a class the first in order of id are taken, or with a `seed` the first of a shuffle that depends on it.
        With fewer samples than classes, the classes taken lie spread over the whole list.

        Args:
            n: how many, at least 1; None for all.

        Raises:
            InputError: `n` below 1.
        """
        if n is not None and n < 1:
            raise InputError(f"a limit must be at least 1 sample, got {n}")
        if n is None or n >= len(self):
            return self
        groups: dict[int, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            groups[-1 if sample.label is None else sample.label].append(sample)
        if seed is not None:
            for group in groups.values():
                group.sort(key=lambda sample: hashlib.sha256(key_bytes(f"{seed}\n{sample.id}")).digest())
        # Round by round, one sample a class; within a round, classes in an order whose every beginning is spread out.
        rank = {label: _van_der_corput(i) for i, label in enumerate(sorted(groups))}
        queue = [(turn, rank[label], sample) for label, group in groups.items() for turn, sample in enumerate(group)]
        queue.sort(key=lambda entry: entry[:2])
        return replace(self, samples=tuple(sample for _, _, sample in queue[:n]))

    def select(self, ids: Iterable[str]) -> ImageDataset:
        """The samples of these ids. Raises `InputError` for an id that is not there, or none at all."""
        by_id = {sample.id: sample for sample in self.samples}
        wanted = list(ids)
        missing = [name for name in wanted if name not in by_id]
        if missing:
            raise InputError(
                f"{self.name}: no sample '{missing[0]}' ({len(missing)} of {len(wanted)} ids are not there)"
            )
        return replace(self, samples=tuple(by_id[name] for name in wanted))

    def of_classes(self, kept: Sequence[int]) -> ImageDataset:
        """The samples of these classes alone, by their present labels; labels count anew, in the order of `kept`.

        Raises:
            InputError: not one sample of them.
        """
        new = {old: label for label, old in enumerate(kept)}
        own = tuple(replace(s, label=new[s.label]) for s in self.samples if s.label in new)
        names, keys = ((None if x is None else tuple(x[k] for k in kept)) for x in (self.classes, self.keys))
        others = {
            name: {id: new[label] for id, label in labels.items() if label in new}
            for name, labels in self.other_labels.items()
        }
        return replace(self, samples=own, classes=names, keys=keys, other_labels=others)


def _van_der_corput(i: int) -> float:
    """i's binary digits mirrored at the point: 0, 1/2, 1/4, 3/4, ... (van der Corput 1935)."""
    value, weight = 0.0, 0.5
    while i:
        value, weight, i = value + weight * (i & 1), weight / 2, i >> 1
    return value
