"""Figures from saved results alone: nothing here runs a model."""

from __future__ import annotations

import base64
import io
import re
import textwrap
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from glom.errors import InputError
from glom.runs.files import replacing, to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour-blind safe, and the same everywhere: blue is the teacher, orange the APM.
TEACHER, APM, ORACLE, GREY = "#0072b2", "#e69f00", "#999999", "#666666"
WIDEST = 100  # letters of a line of text
GAP, LINE = 0.08, 0.16  # inches between panels, and that a line of small text is high


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


class Canvas:
    """A figure of pictures in a lattice, laid out by hand: axes with ticks and a layout engine take most of a figure's
    time, and panels without ticks need neither.

    Attributes:
        axis: one bare axis over the whole figure, in inches from its upper left corner.
    """

    def __init__(self, panel: tuple[float, float], rows: int, across: int, lines: int = 1, above: int = 0) -> None:
        """`panel`: width and height in inches; `lines` of title over each; `above` lines of a title over all."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.panel, self.across, self.lines, self.top = panel, across, lines, GAP + LINE * above
        self.width = across * (panel[0] + GAP) + GAP
        self.height = self.top + rows * (panel[1] + LINE * lines + GAP)
        self.figure: Figure = Figure(figsize=(self.width, self.height))
        FigureCanvasAgg(self.figure)
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set_axis_off()
        self.axis.set_autoscale_on(False)
        self._limits()

    def _limits(self) -> None:
        self.axis.set(xlim=(0, self.width), ylim=(self.height, 0))

    def place(self, number: int) -> tuple[float, float]:
        """Left and upper edge of a panel, counted row by row."""
        row, column = divmod(number, self.across)
        left = GAP + column * (self.panel[0] + GAP)
        return left, self.top + row * (self.panel[1] + LINE * self.lines + GAP) + LINE * self.lines

    def draw(
        self, number: int, pixels: Any, title: str = "", hard: bool = False, part: float = 1.0
    ) -> tuple[float, float]:
        """A picture (h, w, 3) on the upper `part` of a panel, with hard pixel edges or not, and its title; returns its
        place."""
        x, y = self.place(number)
        extent = (x, x + self.panel[0], y + part * self.panel[1], y)
        how = "nearest" if hard else "auto"
        self.axis.imshow(np.asarray(pixels), interpolation=how, extent=extent, aspect="auto")
        self._limits()
        middle = x + self.panel[0] / 2
        self.axis.text(middle, y - 0.04, plain(title), fontsize=8, linespacing=1.15, ha="center", va="bottom")
        return x, y

    def title(self, text: str) -> None:
        """Over all of it."""
        self.axis.text(self.width / 2, GAP / 2, plain(text), fontsize=10, ha="center", va="top")

    def caption(self, text: str) -> None:
        """Below all of it, in room of its own, as many letters in a line as there is width for."""
        widest = max(WIDEST, int(16 * self.width))  # letters of 8 points
        lines = textwrap.wrap(text, widest - 5)
        y = self.height
        self.height += LINE * len(lines) + GAP
        self.figure.set_size_inches(self.width, self.height)
        self._limits()
        self.axis.text(GAP, y, plain("\n".join(lines), widest), fontsize=8, linespacing=1.25, ha="left", va="top")


def plain(text: object, widest: int = WIDEST) -> str:
    r"""Any text as a figure shows it letter by letter: all words in figures that are no constants go through here.

    Matplotlib reads mathematics between two `$` and leaves a legend's line out whose name begins with `_`; a font has
    no letter for control characters, nor for bytes of a name that are no UTF-8. Long lines lose their middle.

    Example:
        >>> print(plain("a$b_$^.png"))
        a\$b_\$^.png
    """
    shown = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]+", " ", to_bytes(str(text)).decode())
    halves = (widest // 2 - 1, -(widest // 2 - 1))
    lines = (x if len(x) <= widest else f"{x[: halves[0]]} \u2026 {x[halves[1] :]}" for x in shown.split("\n"))
    shown = "\n".join(lines).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def plain_all(texts: Iterable[object]) -> list[str]:
    """`plain` of each, for the ticks of an axis."""
    return [plain(text) for text in texts]


def save(figure: Figure, path: Path, caption: str = "") -> Path:
    """Write a PNG at 150 dots an inch, or what else the ending says; below it, where it is laid out by the engine, a
    caption: what is seen, of how many, with which interval."""
    if caption:
        widest = int(15 * figure.get_figwidth())
        lines = plain("\n".join(textwrap.wrap(caption, widest)), widest)
        figure.supxlabel(lines, fontsize=8, x=0.01, ha="left", linespacing=1.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes; the name stands in the files beside the figure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        quick: dict[str, Any] = {"pil_kwargs": {"compress_level": 2}} if path.suffix.lower() == ".png" else {}
        figure.savefig(path, dpi=150, **quick)  # a fifth larger at a third of the time
    return path


def keep(path: Path, image: Image.Image, **values: Any) -> Path:
    """What a figure is drawn from, as one npz without pickles: a picture of at most 640 px (as JPEG), arrays, texts."""
    small, buffer = image.convert("RGB"), io.BytesIO()
    small.thumbnail((640, 640))
    small.save(buffer, "JPEG", quality=92)
    with replacing(path) as file:
        np.savez_compressed(file, picture=np.frombuffer(buffer.getvalue(), np.uint8), **values)
    return path


def kept(path: Path) -> tuple[Image.Image, dict[str, Any]]:
    """What `keep` wrote. Raises `InputError` for a file that is damaged or another's."""
    try:
        with np.load(path, allow_pickle=False) as found:
            values = dict(found)
        return Image.open(io.BytesIO(values.pop("picture").tobytes())).convert("RGB"), values
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds nothing that a figure can be drawn from ({error})") from error


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
    seen = "one picture" if len(traces) == 1 else f"{len(traces)} pictures, a column each"
    return save(figure, path, f"Loss and cosine after every update of an overfit APM: {seen}, no interval.")


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
    counts = sorted({r["n"] for r in rows if "n" in r})
    of = f"{' to '.join(map(str, counts[:1] + counts[1:][-1:]))} pictures a row, the" if counts else "The"
    return save(figure, path, f"{of} same for both; right: paired differences with 95 % intervals over pictures.")
