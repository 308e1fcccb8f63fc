"""Class probabilities of a trained classifier as soft labels, kept as one small map a picture.

The classifier sees each picture once, whole. Its last layer, which is linear in the mean over its feature map, is
applied at each location of that map instead: the mean of the scores over any part is what the part is classified by, so
that every crop of the picture has soft labels of its own without another pass ("Re-labeling ImageNet: from Single to
Multi-Labels, from Global to Localized Labels", Yun et al. 2021, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from glom.errors import InputError
from glom.runs.saving import save_tensors
from glom.teachers.base import Teacher
from glom.teachers.registry import load_teacher
from glom.teachers.timm_models import TimmTeacher

KEPT = 64  # classes of a picture whose scores are kept one by one
SIDE = 224  # pixels of the picture as the classifier sees it


@dataclass(frozen=True)
class LabelMaps:
    """Scores of N pictures at h x w places of each.

    Attributes:
        scores: (N, KEPT + 1, h, w) half precision; the last plane is the log of what the other classes' exponentials
            sum to.
        classes: (N, KEPT) which classes they are.
        names: of all C classes of the classifier.
    """

    scores: Tensor
    classes: Tensor
    names: tuple[str, ...]

    def targets(self, index: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Soft labels at `places` (B, h, w, 2), x and y in [-1, 1], of the pictures `index` (B,).

        Returns:
            (B, h w, C) log-probabilities at each place, and (B, C) those of their mean score.
        """
        scores = F.grid_sample(
            self.scores[index].float(), places, mode="bilinear", padding_mode="border", align_corners=False
        ).flatten(2)
        both = torch.cat([scores, scores.mean(2, keepdim=True)], dim=2).log_softmax(1)
        others = len(self.names) - KEPT
        spread = both[:, -1:].sub(torch.tensor(float(others)).log()).expand(-1, len(self.names), -1)
        full = spread.scatter(1, self.classes[index].long()[:, :, None].expand(-1, -1, both.shape[2]), both[:, :-1])
        return full[:, :, :-1].transpose(1, 2), full[:, :, -1]


def label_maps(name: str, images: Tensor, fingerprint: str, path: Path, batch: int = 32) -> Iterator[int | LabelMaps]:
    """The maps of (N, 3, S, S) uint8 pictures: those kept in `path`, or computed and kept there.

    Yields the pictures done, and the maps at the end.

    Raises:
        InputError: a teacher that is no convolutional classifier of timm's, or a file of other pictures.
        RunError: the disk is full.
    """
    teacher = load_teacher(name, device="cpu")
    model, names = _classifier(teacher)
    facts = {"teacher": teacher.name, "pictures": fingerprint}
    if not path.exists():
        parts: list[dict[str, Tensor]] = []
        for chunk in images.split(batch):
            parts.append(_scores(model, chunk))
            yield min(len(parts) * batch, len(images))
        save_tensors(path, {key: torch.cat([p[key] for p in parts]) for key in parts[0]}, facts)
    with safe_open(path, "pt") as opened:
        known = opened.metadata()
    if known != facts:
        raise InputError(f"{path} holds soft labels of other pictures or of another teacher; delete it to compute anew")
    held = load_file(path)
    yield LabelMaps(held["scores"], held["classes"], names)


def _classifier(teacher: Teacher) -> tuple[Any, tuple[str, ...]]:
    if not isinstance(teacher, TimmTeacher) or not teacher.has_grid or teacher.classes is None:
        raise InputError(
            f"{teacher.name} has no classifier over a feature map; take efficientnet-lite2, or one of timm's"
        )
    return teacher.model.to(memory_format=torch.channels_last), tuple(teacher.classes)


@torch.inference_mode()
def _scores(model: Any, images: Tensor) -> dict[str, Tensor]:
    x = F.interpolate(images.float(), size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
    x = (x.clamp(0, 255) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.forward_features(x).float()
    scores = model.classifier(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    kept = scores.amax((2, 3)).add(scores.mean((2, 3))).topk(KEPT, dim=1).indices
    wide = kept[:, :, None, None].expand(-1, -1, *scores.shape[2:])
    rest = scores.scatter(1, wide, -torch.inf).logsumexp(1, keepdim=True)
    both = torch.cat([scores.gather(1, wide), rest], dim=1)
    return {"scores": both.half(), "classes": kept.short()}
