"""Figures of single-sample overfitting: the curve, the sheet of islands, the film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from glom.colours import Array
from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, save
from probes.figures.film import write_film
from probes.partition import Labels, enlarge

SIDE = 224  # of a film's panels, pixels
# Okabe & Ito's colour-blind safe palette, repeated where there are more islands.
PALETTE = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]]
)


def flat(labels: Labels) -> Array:
    """(h, w) labels -> (h, w, 3) in [0, 1], the largest island in the first colour: equal cuts look equal."""
    found, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(found), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(found))
    return (PALETTE[rank[place.reshape(labels.shape)] % len(PALETTE)] / 255).astype(np.float32)


def curve(result: Mapping[str, Any], path: Path) -> Path:
    """Left: loss and cosine. Right: islands against the outlines (or the controls) as iterations pass."""
    looks = result["looks"]
    x = [look["iteration"] for look in looks]
    figure, axes = new_figure(10.4, 3.4, 1, 2)
    left, right = axes[0]
    known = [(look["iteration"], look["loss"]) for look in looks if look["loss"] is not None]
    left.plot(*zip(*known, strict=True), color=APM, label="loss")
    left.set_yscale("log")
    left.set_ylabel("loss")
    twin = left.twinx()
    twin.plot(x, [look["cosine"] for look in looks], color=TEACHER, ls="--")
    twin.set_ylabel("cosine with the teacher's token (dashed)", fontsize=8)
    twin.set_ylim(min(0.0, *(look["cosine"] for look in looks)), 1.03)
    if "ari" in looks[0]:
        right.plot(x, [look["ari"] for look in looks], color=APM, label="APM")
        for name, style in (("position code", ":"), ("untrained", "--"), ("colour + position", "-.")):
            right.axhline(result["islands"][name]["ari"], color=GREY, ls=style, lw=1, label=plain(name))
        right.axhline(result["islands"]["noise"]["ari"], color=TEACHER, ls=":", lw=1, label="noise instead")
        right.set_ylabel("ARI with people's outlines")
    else:
        for kind, colour in (("shuffled", "#009e73"), ("noise", TEACHER)):
            right.plot(x, [look[f"same_as_{kind}"] for look in looks], color=colour, label=plain(f"{kind}, at the end"))
        right.set_ylabel("ARI with the control's islands")
        right.set_ylim(-0.05, 1.05)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in (left, right):
        axis.set_xlabel("iteration")
    return save(figure, path, "One picture overfit: no interval.")


def sheet(
    image: Any,
    coloured: Sequence[Any],
    final: Mapping[str, Labels],
    notes: Mapping[str, str],
    truth: Labels | None,
    path: Path,
) -> Path:
    """Features before, after and of the controls (one colour code), and the islands of all of them and the baselines.

    Args:
        image: the picture (320, 320, 3), squeezed.
        coloured: (h, w, 3) uint8: the picture's first look, its last, then the shuffled and the noise control's last.
        final: islands by name. notes: what is said of each.
        truth: one person's outlines, or None.
    """
    names = ("untrained", "picture", "shuffled", "noise", "position code", "colour + position")
    panels = [(f"features, {n}", colours) for n, colours in zip(names, coloured, strict=False)]
    panels.append(("picture, squeezed", image))
    if truth is not None:
        panels.append(("one person's outlines", flat(enlarge(truth, 320, 320))))
    figure, axes = new_figure(2.1 * len(names), 5.0, 2, len(names))
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, (name, colours) in zip(axes[0], panels, strict=False):
        axis.imshow(colours, interpolation="nearest")
        axis.set_title(plain(name), fontsize=9)
    for axis, name in zip(axes[1], names, strict=True):
        axis.imshow(flat(final[name]), interpolation="nearest")
        axis.set_title(plain(f"islands, {name}\n{notes[name]}"), fontsize=9)
    return save(figure, path)


def film(image: Any, coloured: Sequence[Any], cuts: Sequence[Labels], words: Sequence[str], path: Path) -> Path:
    """Picture, features and islands side by side, a frame a look, with words below.

    Args:
        image: (h, w, 3) uint8. coloured: (h, w, 3) uint8 a look. cuts: labels a look.
    """
    frames, side = [], SIDE
    square = Image.fromarray(image).resize((side, side))
    for colours, labels, text in zip(coloured, cuts, words, strict=True):
        frame = Image.new("RGB", (3 * side + 16, side + 24), "white")
        for column, panel in enumerate((None, colours, (flat(labels) * 255).round().astype(np.uint8))):
            shown = square
            if panel is not None:
                shown = Image.fromarray(panel).resize((side, side), Image.Resampling.NEAREST)
            frame.paste(shown, (column * (side + 8), 0))
        ImageDraw.Draw(frame).text((4, side + 4), text, fill="black", font_size=14)
        frames.append(np.asarray(frame))
    return write_film(frames, path, 4.0)
