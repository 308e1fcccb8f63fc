"""Figures from saved results alone: nothing here runs a model."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from glom.runs.files import to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour-blind safe, and the same everywhere: blue is the teacher, orange the APM.
TEACHER, APM, ORACLE, GREY = "#0072b2", "#e69f00", "#999999", "#666666"
WIDEST = 100  # letters of a line of text


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """A figure without a display and its axes (always an array), in seaborn's plain style. Sizes in inches."""
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with sns.axes_style("ticks"), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, axes


def plain(text: object) -> str:
    r"""Any text as a figure shows it letter by letter: all words in figures that are no constants go through here.

    Matplotlib reads mathematics between two `$` and leaves a legend's line out whose name begins with `_`; a font has
    no letter for control characters, nor for bytes of a name that are no UTF-8. Long lines lose their middle.

    Example:
        >>> print(plain("a$b_$^.png"))
        a\$b_\$^.png
    """
    shown = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]+", " ", to_bytes(str(text)).decode())
    halves = (WIDEST // 2 - 1, -(WIDEST // 2 - 1))
    lines = (x if len(x) <= WIDEST else f"{x[: halves[0]]} \u2026 {x[halves[1] :]}" for x in shown.split("\n"))
    shown = "\n".join(lines).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def plain_all(texts: Iterable[object]) -> list[str]:
    """`plain` of each, for the ticks of an axis."""
    return [plain(text) for text in texts]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG at 150 dots an inch, or what else the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes; the name stands in the files beside the figure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=150)
    return path


def png_data(image: Any, enlarge_to: int = 0) -> str:
    """A `data:` address of a PNG: a file's, a PIL picture's, or of a (h, w, 3) array in [0, 1].

    Pictures smaller than `enlarge_to` are enlarged with hard pixel edges: a grid should look like a grid.
    """
    if isinstance(image, Path):
        return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode()
    picture = image if isinstance(image, Image.Image) else to_image(image)
    if enlarge_to and max(picture.size) < enlarge_to:
        factor = max(1, enlarge_to // max(picture.size))
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def to_image(array: Any) -> Image.Image:
    """(h, w, 3) in [0, 1] -> a PIL picture."""
    return Image.fromarray((np.asarray(array).clip(0, 1) * 255 + 0.5).astype(np.uint8))


def strip(panels: Sequence[tuple[str, Any]], path: Path, title: str = "") -> Path:
    """A row of titled pictures, hard pixel edges."""
    figure, axes = new_figure(2.6 * len(panels), 3.0 + (0.3 if title else 0), 1, len(panels))
    for axis, (name, picture) in zip(axes[0], panels, strict=True):
        axis.imshow(np.asarray(picture), interpolation="nearest")
        axis.set_title(plain(name), fontsize=10)
        axis.set_axis_off()
    if title:
        figure.suptitle(plain(title), fontsize=11)
    return save(figure, path)


def trace_figure(traces: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Loss, cosine and agreement against the iteration, a column a picture.

    Args:
        traces: `{"title", "trace": [{"iteration", "loss", "cosine", "class"}], "teacher_class", "names"}` each.
    """
    figure, axes = new_figure(max(3.6 * len(traces), 5.2), 4.6, 2, len(traces), sharex="col")
    for column, item in enumerate(traces):
        steps = item["trace"]
        x = [s["iteration"] for s in steps]
        top, bottom = axes[0, column], axes[1, column]
        losses = [(s["iteration"], s["loss"]) for s in steps if s["loss"] is not None]
        top.plot(*zip(*losses, strict=True), color=APM)
        top.set_yscale("log")
        top.set_title(plain(item["title"]), fontsize=10)
        agrees = [s["class"] == item["teacher_class"] for s in steps]
        bottom.plot(x, [s["cosine"] for s in steps], color=APM, label="cosine with the teacher")
        bottom.fill_between(
            x,
            0,
            1,
            where=agrees,
            color=TEACHER,
            alpha=0.12,
            transform=bottom.get_xaxis_transform(),
            step="mid",
            label="same class as the teacher",
            linewidth=0,
        )
        bottom.set_ylim(min(-0.05, min(s["cosine"] for s in steps)), 1.05)
        bottom.set_xlabel("iteration")
        if column == 0:
            top.set_ylabel("loss")
            bottom.set_ylabel("cosine")
            bottom.legend(fontsize=8, loc="lower right", frameon=False)
    return save(figure, path)


def accuracy_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Teacher and APM side by side for every condition, and the paired difference with its interval.

    Args:
        rows: `{"name", "teacher_top1", "apm_top1", "oracle_top1", "difference", "ci95"}` each.
    """
    figure, axes = new_figure(8.2, 0.9 + 0.75 * len(rows), 1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2]})
    left, right = axes[0]
    y = np.arange(len(rows))[::-1]
    left.barh(y + 0.18, [r["teacher_top1"] for r in rows], 0.34, color=TEACHER, label="teacher, zero-shot")
    left.barh(y - 0.18, [r["apm_top1"] for r in rows], 0.34, color=APM, label="APM, last iteration")
    left.plot([r["oracle_top1"] for r in rows], y - 0.18, "|", color=GREY, ms=14, mew=2, label="oracle (diagnostic)")
    left.set_yticks(y, plain_all([r["name"] for r in rows]))
    left.set_xlim(0, 100)
    left.set_xlabel("top-1 accuracy (%)")
    left.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.55 / len(rows)), ncols=3)
    difference = np.array([r["difference"] for r in rows])
    interval = np.array([r["ci95"] or 2 * [r["difference"]] for r in rows])
    errors = np.abs(interval.T - difference)
    right.errorbar(difference, y, xerr=errors, fmt="o", color=APM, capsize=3)
    right.axvline(0, color=GREY, lw=1)
    reach = max(2.0, float(np.abs(interval).max()) * 1.2)
    right.set_xlim(-reach, reach)
    right.set_xlabel("APM minus teacher (points, 95 %)")
    return save(figure, path)
