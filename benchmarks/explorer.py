"""How large the explorer's pages are and how fast they answer, in Chromium without a window; and pictures of it.

    python benchmarks/explorer.py --record benchmarks/results/explorer.json --pictures docs/images

Two pages: three photographs seen by `mvit-v2-photo` and by the same network untrained, 16 layers in all; and a table of
15 conditions, 14 methods and the 200 pictures of `cifar10-sample`, whose answers are drawn at random. Needs playwright,
which `make setup` installs, and a Chromium on the path. Pictures are `explorer.png` and `explorer.gif`.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glom.backbones.registry import load_backbone
from glom.datasets.registry import open_dataset
from glom.runs.artifacts import write_record
from probes.explorer import View, page, picture_of
from probes.explorer.tables import Answers, Asked, Thumbs, answers_table, counted
from probes.figures.film import write_film
from probes.look import islands

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut")  # ship with scikit-image: CC0, CC0, public domain
NETWORKS = ("mvit-v2-photo", "mvit-v2-photo@random")
CONDITIONS, METHODS = 15, 14
EYE = (0.37, 0.38)  # the place pointed at in the picture
WAY = ((0.37, 0.38), (0.45, 0.3), (0.58, 0.55), (0.6, 0.82), (0.3, 0.85), (0.1, 0.9), (0.12, 0.15), (0.37, 0.38))
POINTS, FILTERS = 60, 12
# Milliseconds from an event to the frame behind the one that shows what came of it.
ANSWERED = """async ([selector, place, act]) => {
  const target = document.querySelector(selector), drawn = document.querySelector(place), before = drawn.dataset.drawn;
  const frame = () => new Promise((done) => requestAnimationFrame(done)), begun = performance.now();
  if (act === "filter") {
    target.value = String.fromCharCode(97 + Math.floor(Math.random() * 26));
    target.dispatchEvent(new Event("input"));
  } else {
    const box = target.getBoundingClientRect(), [x, y] = [box.left + box.width * act[0], box.top + box.height * act[1]];
    target.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y }));
  }
  while (drawn.dataset.drawn === before) await frame();
  await frame();
  return performance.now() - begun;
}"""


def photographs() -> View:
    """Three photographs, 16 layers each."""
    from skimage import data

    networks = {name: load_backbone(name, "cpu") for name in NETWORKS}
    pictures = []
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(data, name)())
        pictures.append(picture_of(name, image, [islands(image, b).source(n) for n, b in networks.items()]))
    return {"title": "Point at an eye: what agrees with it", "facts": [], "notes": [], "pictures": pictures}


def table() -> View:
    """Made answers to real pictures."""
    dataset, rng = open_dataset("cifar10-sample"), np.random.default_rng(0)
    names, thumbs = [sample.id for sample in dataset.samples], Thumbs()
    asked: Asked = {"names": names, "classes": list(dataset.classes or ()), "images": thumbs.of(dataset, names)}
    labels = np.array([sample.label for sample in dataset.samples], np.int16)
    held: dict[str, Answers] = {}
    rows = []
    for c in range(CONDITIONS):
        answers = {f"method {m}": rng.integers(0, 10, len(names)).astype(np.int16) for m in range(METHODS)}
        held[f"condition {c}"] = {"set": 0, "labels": labels, "answers": answers}
        rows += [counted(m, f"condition {c}", labels, said) for m, said in answers.items()]
    shown = answers_table("made answers", rows, [asked], held, thumbs.images)
    return {"title": "table", "facts": [], "notes": [], "tables": [shown]}


def opened(browser: Any, path: Path) -> tuple[Any, float]:
    """The page, and the seconds until it can be used."""
    shown = browser.new_page(viewport={"width": 1180, "height": 800})
    begun = time.perf_counter()
    shown.goto(path.as_uri())
    shown.wait_for_selector("[data-ready=true]")
    return shown, time.perf_counter() - begun


def spread(values: list[float]) -> dict[str, float]:
    """Of milliseconds."""
    found = np.quantile(values, [0.5, 0.95, 1.0])
    return {name: round(float(v), 2) for name, v in zip(("median", "p95", "most"), found, strict=True)}


def draw(shown: Any, ask: list[Any], folder: Path) -> None:
    """The page as it is seen when an eye is pointed at, and a film of the pointer on its way over the picture."""
    shown.evaluate(ANSWERED, ask)
    stops = np.array(WAY)
    places = [a + (b - a) * t for a, b in pairwise(stops) for t in (0, 1 / 3, 2 / 3)]
    frames = []
    for place in [*places, stops[-1]]:
        shown.evaluate(ANSWERED, [*ask[:2], (place + 0.001).tolist()])
        frames.append(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"))
    frames[-1].quantize(256).save(folder / "explorer.png", optimize=True)
    write_film(
        [np.asarray(f.resize((f.width * 2 // 3, f.height * 2 // 3))) for f in frames], folder / "explorer.gif", 5
    )


def measure(browser: Any, folder: Path, pictures: str) -> dict[str, Any]:
    """Both pages, opened and asked."""
    found: dict[str, Any] = {}
    for name, view in (("islands", photographs()), ("table", table())):
        path = folder / f"{name}.html"
        path.write_text(page(view), encoding="utf-8")
        shown, seconds = opened(browser, path)
        ask = (
            [".table input[type=search]", ".table", "filter"]
            if name == "table"
            else ["canvas.hero", ".islands", list(EYE)]
        )
        times, own = [], []
        for point in np.random.default_rng(0).uniform(0.05, 0.95, (FILTERS if name == "table" else POINTS, 2)).tolist():
            times.append(shown.evaluate(ANSWERED, [*ask[:2], "filter" if name == "table" else point]))
            own.append(float(shown.evaluate("document.querySelector('.islands')?.dataset.ms ?? 0")))
        found[name] = {"megabytes": round(path.stat().st_size / 1e6, 3), "opened_s": round(seconds, 3)}
        found[name]["answered_ms"] = spread(times)
        if name == "islands":
            stages = [stage for p in view["pictures"] for source in p["sources"] for stage in source["stages"]]
            found[name] |= {"drawn_ms": spread(own)}  # what the page itself takes for it, frames not waited for
            found[name] |= {"grids": len(stages), "worst_cosine": round(max(s["error"] for s in stages), 5)}
            if pictures:
                draw(shown, ask, Path(pictures))
        shown.close()
    return found


def main() -> None:
    """Measure, print, and write what was asked for."""
    from playwright.sync_api import sync_playwright

    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--record", default="", metavar="FILE", help="also write the result here")
    asked.add_argument("--pictures", default="", metavar="DIR", help="also write its pictures here")
    given = asked.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        others = {"waiting": round(os.getloadavg()[0], 1), "niceness": os.nice(0)}
        found = {"chromium": browser.version, "others": others, **measure(browser, Path(folder), given.pictures)}
        browser.close()
    print(found)
    if given.record:
        write_record(Path(given.record), found)


if __name__ == "__main__":
    main()
