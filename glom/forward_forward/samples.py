"""Positive and negative data made from batches of pictures, on the device, with no loop over samples."""

from __future__ import annotations

import torch
from torch import Tensor

from glom.errors import InputError
from glom.forward_forward.settings import FFSettings


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise `InputError` for a label outside 0 ... classes - 1."""
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise InputError(f"label {int(wrong)} is outside the {classes} classes (0 to {classes - 1})")


def choose_wrong(labels: Tensor, scores: Tensor | None, classes: int, generator: torch.Generator) -> Tensor:
    """A wrong label for every row: uniform, or hard, in proportion to the probabilities a network gives (section 3.3).

    Args:
        labels: (B,) the right ones.
        scores: (B, classes) logits, or None for uniform. A row whose probability lies on its right label alone
            still gets a wrong one.
    """
    if scores is None:
        step = torch.randint(1, classes, labels.shape, generator=generator, device=labels.device)
        return (labels + step) % classes
    # A network that diverges is told so by its goodness, a step later, and not by a draw that fails here.
    others = scores.nan_to_num(0.0, 0.0, 0.0).scatter(1, labels[:, None], float("-inf")).softmax(1)
    # One draw of `torch.multinomial`, by the same race, without its checks.
    return (others / torch.empty_like(others).exponential_(generator=generator)).argmax(1)


def shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Every picture moved by its own random whole step, up to `most` pixels each way on both axes, zeros coming in.

    Args:
        images: (B, C, H, W).

    Returns:
        the same shape. With `most` = 2 there are the 25 shifts of section 3.3.
    """
    b, c, h, w = images.shape
    dy, dx = torch.randint(-most, most + 1, (2, b), generator=generator, device=images.device)
    padded = torch.nn.functional.pad(images, (most,) * 4)
    rows = torch.arange(h, device=images.device) + most + dy[:, None]
    columns = torch.arange(w, device=images.device) + most + dx[:, None]
    index = rows[:, :, None] * (w + 2 * most) + columns[:, None, :]
    return padded.flatten(2).gather(2, index.view(b, 1, -1).expand(b, c, -1)).view(images.shape)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture (B, C, H, W) mirrored left to right, or not, with even chances."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def drop(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Every pixel of (B, C, H, W) left out with this chance, of all channels, the others divided by 1 - chance.

    Dropout of inputs (Srivastava et al. 2014, JMLR 15). A layer's gradient is that of the picture it is given.
    """
    kept = torch.rand(len(images), 1, *images.shape[2:], generator=generator, device=images.device) >= chance
    return images * kept.to(images.dtype).div_(1 - chance)


def seen(images: Tensor, settings: FFSettings, generator: torch.Generator) -> Tensor:
    """Training pictures (B, C, H, W) as a network of any mode, or its twin, is shown them: moved, mirrored, dropped."""
    if settings.jitter:
        images = shift(images, settings.jitter, generator)
    if settings.flip:
        images = flip(images, generator)
    if settings.input_dropout:
        images = drop(images, settings.input_dropout, generator)
    return images


def blur_matrix(n: int, times: int) -> Tensor:
    """(n, n): the filter [1/4, 1/2, 1/4] applied so many times along a line of n pixels, its ends repeated outwards."""
    once = torch.zeros(n, n)
    for offset, share in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        once[torch.arange(n), (torch.arange(n) + offset).clamp(0, n - 1)] += share
    return torch.linalg.matrix_power(once, times)


def hybrid(images: Tensor, blur: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """Negative data without labels: each picture mixed with another through a mask of large blobs (section 3.2).

    A random bit image is blurred and thresholded at 1/2; the picture shows where the mask is 1, another where it is 0.

    Args:
        images: (B, C, H, W), at least two. The other picture is the batch's next one in a random circle.
        blur: `blur_matrix` of the height and of the width.

    Raises:
        InputError: one picture alone, which mixed with itself is no negative.
    """
    b, _, h, w = images.shape
    if b < 2:
        raise InputError("unsupervised negatives are made of two pictures; a batch of one has none")
    bits = torch.randint(0, 2, (b, 1, h, w), generator=generator, device=images.device).to(blur[0].dtype)
    mask = (blur[0] @ bits @ blur[1].T) > 0.5
    circle = torch.randperm(b, generator=generator, device=images.device)
    other = torch.empty_like(circle)
    other[circle] = circle.roll(1)
    return torch.where(mask, images, images[other])
