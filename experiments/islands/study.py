"""What a scoring of islands is made of: pictures, a network and its untrained twin, what is read of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments.islands.measure import NEEDS, Seen, read_item, see
from experiments.islands.readings import Reading, called, place, select_readings
from experiments.islands.settings import ScoreSettings
from glom.backbones.base import Backbone
from glom.backbones.video import default_backbone, load_backbone, untrained
from glom.datasets.loading import read_ahead, readers
from glom.datasets.segmentation import CompositePicture, SegmentedPicture, SegmentedSet, open_segmentation
from glom.errors import GlomError, InputError, lost
from glom.runs.parallel import in_order, processes
from glom.slots.trained import TrainedSlots, load
from probes.partition import parse_partition
from probes.partition.cuts import SIDE

RULE = "covering: mean over annotators"  # kept with a run, so that pictures scored by another rule do not mix with it
Task = TypeVar("Task")
Item = SegmentedPicture | CompositePicture


@dataclass(frozen=True)
class Study:
    """Attributes: view: frames and side that the networks are shown. notes: sentences about what is not as built.
    slots: trained ones that look at what is scored, or None."""

    settings: ScoreSettings
    data: SegmentedSet
    backbone: Backbone
    twin: Backbone
    readings: tuple[Reading, ...]
    view: tuple[int, int]
    notes: tuple[str, ...]
    slots: TrainedSlots | None = None

    @property
    def names(self) -> list[int | str]:
        """Of what is read."""
        return [called(reading) for reading in self.readings]

    @property
    def places(self) -> list[str]:
        """The same in the network's own words."""
        return [place(self.backbone, reading) for reading in self.readings]

    def held(self, data: SegmentedSet, *leave: str, **more: Any) -> dict[str, Any]:
        """What decides a run over these pictures."""
        frames, size = self.view
        own = {"data": data.name, "backbone": self.backbone.name, "frames": frames, "size": size, "measure": RULE}
        own |= {"data_fingerprint": data.fingerprint(), "limit": len(data.pictures), **more}
        return self.settings.manifest("jobs", "slots", *leave, **own)

    def watch(
        self,
        pictures: Sequence[Item],
        readings: Sequence[Reading],
        function: Callable[[tuple[Seen | dict[str, str], Task]], tuple[dict[str, Any], float]],
        task: Task,
        slots: TrainedSlots | None = None,
    ) -> Iterator[tuple[Item, dict[str, Any], float]]:
        """Pictures with their records and seconds, in order: seen here once each, cut and scored in processes."""
        workers = readers(self.settings.workers, self.backbone.device)
        looks = read_ahead(lambda number: read_item(pictures[number]), range(len(pictures)), workers)
        networks, side, seed = {"own": self.backbone, "untrained": self.twin}, self.settings.grid, self.settings.seed

        def work() -> Iterator[tuple[Seen | dict[str, str], Task]]:
            for item, found in zip(pictures, looks, strict=True):
                try:
                    if isinstance(found, GlomError):
                        raise found
                    yield see(item, found, networks, readings, self.view, side, seed, slots), task
                except GlomError as error:
                    yield lost(error), task

        found = in_order(function, work(), processes(self.settings.jobs, len(pictures)), NEEDS)
        for item, (record, seconds) in zip(pictures, found, strict=True):
            yield item, record, seconds


def prepare(settings: ScoreSettings) -> Study:
    """Open the data and the networks. Raises `InputError` for a request that cannot be."""
    check_cut(settings.partition, settings.grid)
    name, note = (settings.backbone, "") if settings.backbone else default_backbone()
    data = open_segmentation(settings.data, settings.split, settings.limit or None, settings.seed)
    backbone = load_backbone(name, settings.device)
    readings = select_readings(backbone, settings.layers)
    view = (settings.frames or backbone.frames, settings.size or backbone.view)
    notes = [*([note] if note else []), *backbone.fit(*view)]
    twin = untrained(backbone, settings.seed)
    slots = load(settings.slots, settings.device) if settings.slots else None
    return Study(settings, data, backbone, twin, tuple(readings), view, tuple(notes), slots)


def check_cut(text: str, side: int) -> None:
    """Raises `InputError` for a partition that is none, or for more islands than there are locations."""
    how = parse_partition(text)
    fine = how.method in ("kmeans", "agglomerative", "agglomerative-grid") and how.settled is None
    side = side if fine else min(side, SIDE)
    if how.count is not None and how.count > side**2:
        raise InputError(f"`partition` '{text}': {how.count} islands of {side} x {side} = {side**2} locations")
