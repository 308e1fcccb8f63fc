"""Layer-local objectives of convolutional layers: what a layer's own goodness should be, and nothing of other layers.

Channels are cut into one group a class; a class's goodness in a layer is the mean square of its group's activities,

    G_c = 1/(S H W) Σ_{k in c, h, w} y_khw²,    S = channels / classes  (Papachristodoulou et al. 2024, equation 2).

The three objectives with labels compare G of the right class with that of the others in the same picture: no negative
picture is made. `scff` knows no labels and makes its negatives of two pictures, at every layer anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from glom.forward_forward.samples import choose_wrong

SYMBA_ALPHA = 4.0  # of Lee & Song 2023
MARGIN = 1.0
# Goodness that positives are to be above and negatives below, by layer, the last for all further ones; and the weight
# of goodness itself: the release's for CIFAR-10 (github.com/neurophysics-cnrsthales/contrastive-forward-forward).
SCFF_TARGETS = ((0.0, 1.0), (5.0, 9.0), (6.0, 10.0))
SCFF_NORM = (0.0012, 0.0007, 0.0005)


def grouped(y: Tensor, classes: int) -> Tensor:
    """Each class's goodness G: activities (B, K, H, W), K a multiple of the classes -> (B, classes)."""
    return y.square().mean((2, 3)).unflatten(1, (classes, -1)).mean(2)


def cwc(g: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Channel-wise competition, -log softmax(G)_y (Papachristodoulou et al., AAAI 2024, equation 5): goodness (B, C),
    labels (B,) -> scalar."""
    return F.cross_entropy(g, labels)


def symba(g: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """log(1 + exp(-α (G_y - G_w))): right and wrong weigh alike at any level of goodness (Lee & Song 2023, "SymBa").

    w is one wrong class a picture, drawn in proportion to softmax(G) (Hinton 2022, section 3.3). In the paper the class
    is a pattern in the input, and G_w another forward pass; here it is a group of channels.
    """
    wrong = choose_wrong(labels, g.detach(), g.shape[1], generator)
    gap = g.gather(1, labels[:, None]) - g.gather(1, wrong[:, None])
    return F.softplus(-SYMBA_ALPHA * gap).mean()


def distance(g: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """N-pair margin loss on goodness, log(1 + Σ_{w≠y} exp(m + G_w - G_y)) (after Wu et al. 2024, "Distance-Forward").

    Their layer collaboration (blocks of two layers that share a gradient) is left out: it is no longer local.
    """
    return F.cross_entropy(g + MARGIN - MARGIN * F.one_hot(labels, g.shape[1]), labels)


LABELLED: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "cwc": cwc,
    "symba": symba,
    "distance": distance,
}


def scff(positive: Tensor, negative: Tensor, layer: int) -> Tensor:
    """Self-contrastive: softplus(θ₊ - G) + softplus(G - θ₋) + λ ‖G₊‖, G the mean square over channels at each place
    (Chen, Liu & Grollier 2024, arXiv 2409.11593, and its release).

    Args:
        positive: G (B, H, W) of pictures paired with themselves. negative: of pairs of two pictures.
        layer: counted from 0; θ and λ are the release's for it.
    """
    above, below = SCFF_TARGETS[min(layer, len(SCFF_TARGETS) - 1)]
    norm = SCFF_NORM[min(layer, len(SCFF_NORM) - 1)] * positive.norm(dim=(1, 2)).mean()
    return F.softplus(above - positive).mean() + F.softplus(negative - below).mean() + norm
