"""Training recipe of the shipped `mvit-v2-photo`: boring videos of photographs, classification and nothing else.

It begins with the weights of `mvit-v2-tiny` (32 px, ten classes), some blocks deeper, and learns the class
probabilities of a trained classifier on strong views of every photograph, beside the labels that some of them have. The
read-out is the mean over the last grid, so the scores of a view are the mean of its locations' scores; with `per_place`
each location is asked, too, for the probabilities that the classifier's own last layer gives there ("All Tokens Matter:
Token Labeling for Training Better Vision Transformers", Jiang et al. 2021). No outline is told, no neighbour asked to
agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.recipes.label_maps import LabelMaps, label_maps
from experiments.recipes.mvit_tiny import MEAN, STD, Trainer, check
from experiments.recipes.mvit_tiny_ship import Facts, Pictures, Shipping, boring, open_split, read_pictures, ship
from experiments.recipes.photo_pictures import UNLABELLED, read_photographs
from experiments.recipes.settings import MViTPhotoSettings
from glom.backbones.mvit_shipped import TinyConfig
from glom.backbones.mvit_tiny import TINY, Block, TinyMViT, build_mvit
from glom.backbones.registry import load_backbone
from glom.datasets.augment import crops, jitter, look, places_in
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, public_command, read_timing
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings

BLOCKS = (*TINY, Block(4, 192, 192), Block(4, 192, 192))
SIZE, VIEW = 64, 224
LABELS = "soft_labels.safetensors"


def run(settings: MViTPhotoSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Shipping]]:
    """Compute soft labels, train, measure on the test split, write weights, configuration and model card into `out`.

    Resumed anywhere it gives the same weights to the bit. The events' loss is the running epoch's, their accuracy the
    share of views that the network puts into the class that its teacher does.

    Raises:
        InputError: the data do not fit the recipe, `out` holds something else, a resumed run has other settings.
        RunError: the loss is no longer finite, or the disk is full.
    """
    check(settings)
    begun(settings.start, build_mvit(SIZE, 2, 1, BLOCKS))  # says now, not after the soft labels, that it cannot be
    with RunFolder(out, "train-mvit-v2-photo", settings.manifest(), resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        test = open_split(settings.data, "test", settings.limit)
        yield Event(message="reading the pictures")
        data = read_photographs(settings.data, settings.also, settings.stored, settings.limit, settings.workers)
        if data.classes != test.classes:
            raise InputError(f"{settings.data}: the classes of its train and test splits differ")
        maps: LabelMaps | int = 0
        for maps in label_maps(settings.teacher, data.images, data.fingerprint(), out / LABELS):
            if isinstance(maps, int):
                yield Event("soft labels", maps, len(data.images))
        assert isinstance(maps, LabelMaps)
        names = (*data.classes, *maps.names)
        config = TinyConfig(classes=names, blocks=BLOCKS, size=SIZE, view=VIEW, mean=MEAN, std=STD)
        trainer = PhotoTrainer(data, maps, config, settings, folder)
        yield from trainer.run()
        facts: Facts = {
            "command": public_command(folder.manifest["command"]),
            "train_pictures": len(data.images),
            "seconds": round(sum(read_timing(out).values()), 1),
        }
        labelled = int((data.labels != UNLABELLED).sum())
        recipe = settings.manifest("data", labelled=labelled, own_classes=len(data.classes))
        test_set = read_pictures(test, SIZE, settings.workers)
        result = ship(trainer.net, config, recipe, facts, test_set, out, "mvit_photo_card.md.j2")
        folder.conclude(result, test_accuracy=result["test_accuracy"])
    yield Event(result=result)


class PhotoTrainer(Trainer):
    """The deeper network, and how one step goes."""

    def __init__(
        self, data: Pictures, maps: LabelMaps, config: TinyConfig, settings: MViTPhotoSettings, folder: RunFolder
    ) -> None:
        self.maps, self.photo = maps, settings
        super().__init__(data, config, settings, folder)

    def draw(self) -> TinyMViT:
        return begun(self.photo.start, build_mvit(**self.config.recipe()))

    def loss(self, step: int) -> Tensor:
        """(2,): the loss of a step's batch, and on how many of its views network and teacher agree."""
        s, generator, index = self.photo, self.epochs.generator, self.epochs.pictures(step)
        labels, side = self.data.labels[index], self.side(self.sizes())
        boxes = crops(len(index), generator, s.least)
        view = jitter(look(self.data.images[index].float() / 255, boxes, side), generator, s.colour)
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
            scores = self.net.head(self.net.tokens(boring((view - self.mean) / self.std, self.config.frames))[:, 1:])
        places = scores.float()
        whole, own = places.mean(1), len(self.data.classes)
        here, there = self.maps.targets(index, places_in(boxes, round(places.shape[1] ** 0.5)))
        loss = soft_loss(whole[:, own:], there)
        if s.per_place:
            loss = loss + s.per_place * soft_loss(places[..., own:], here)
        known = labels != UNLABELLED
        if s.own and known.any():
            found = F.cross_entropy(whole[known, :own], labels[known], label_smoothing=s.label_smoothing)
            loss = loss + s.own * found
        return torch.stack([loss, (whole[:, own:].argmax(1) == there.argmax(1)).sum()])


def soft_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the network's class probabilities from `targets`' (logarithms), the mean."""
    both = scores.log_softmax(-1).flatten(0, -2), targets.flatten(0, -2)
    return F.kl_div(*both, log_target=True, reduction="batchmean")


def begun(start: str, net: TinyMViT) -> TinyMViT:
    """The network with the weights of the backbone called `start`. Raises `InputError` as `grow` does."""
    grow(net, load_backbone(start, "cpu").model, start)
    return net


@torch.no_grad()
def grow(net: TinyMViT, start: nn.Module, name: str) -> None:
    """Give a network the weights of a shallower one, all but the classifier's.

    Tables of relative positions are interpolated. A block that `start` lacks adds nothing at first, so that the last
    grid is `start`'s ("Fixup Initialization", Zhang et al. 2019, begins its branches so).

    Raises:
        InputError: another kind of network, or weights of other widths.
    """
    if not isinstance(start, TinyMViT):
        raise InputError(f"{name} cannot be begun with: a {type(start).__name__} is not of mvit-v2-tiny's kind")
    own, given = net.state_dict(), start.state_dict()
    for key, value in own.items():
        found = given.get(key)
        if key.startswith("head."):
            continue
        if found is None:
            if key.endswith(("attn.project.0.weight", "attn.project.0.bias", "mlp.3.weight", "mlp.3.bias")):
                value.zero_()
        elif "rel_pos" in key and found.shape[1] == value.shape[1]:
            value.copy_(F.interpolate(found.T[None], len(value), mode="linear", align_corners=True)[0].T)
        elif found.shape != value.shape:
            raise InputError(f"{name} cannot be begun with: its {key} is {list(found.shape)}, not {list(value.shape)}")
        else:
            value.copy_(found)
