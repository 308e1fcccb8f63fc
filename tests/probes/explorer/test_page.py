"""The page in a browser: one browser for all tests, skipped where there is none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.explorer import Pages, layered, page
from probes.explorer.codes import decode
from probes.explorer.tables import answers_table, counted
from probes.levels import level_islands
from probes.metrics import covering, mbo
from probes.partition import enlarge
from probes.partition.tree import Tree
from tests.conftest import busy, make_image, settle
from tests.probes.explorer.views import EVIL, RIGHT_TO_LEFT, grids, view

TABS = ("Islands", "Test-time training", "Interpolation", "Tables", "About")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(page(view()), encoding="utf-8")
    return path


@pytest.fixture
def opened(opened, file):
    """As any page, by default the one with everything in it."""
    return lambda path=file, **settings: opened(path, **settings)


def caption(shown: Any, number: int = 0) -> str:
    settle(shown)
    return shown.locator(".pane figcaption").nth(number).inner_text()


def test_no_name_becomes_a_script_and_every_tab_opens(opened):
    shown = opened()
    for tab in TABS:
        shown.get_by_role("tab", name=tab).click()
        shown.wait_for_selector(f"[role=tab][aria-selected=true]:has-text('{tab}')")
        settle(shown)
        assert shown.evaluate("window.hacked") is None
    assert EVIL in shown.locator("dd").all_inner_texts() and EVIL in shown.locator(".note").inner_text()
    assert shown.title() == f"runs of {EVIL}" == shown.locator("h1").inner_text()
    assert shown.evaluate("document.querySelectorAll('script').length") == 2
    shown.get_by_role("tab", name="Tables").click()
    shown.get_by_role("button", name="A", exact=True).click()
    assert shown.locator(".faces bdi").all_inner_texts() == [EVIL]  # right by A, and B says another
    shown.get_by_label("which").select_option("second")
    assert shown.locator(".faces bdi").all_inner_texts() == [RIGHT_TO_LEFT]
    assert shown.evaluate("window.hacked") is None


def test_what_the_page_computes_is_what_the_library_computes(opened):
    shown, made = opened(), view()["pictures"][0]
    stage, masks = made["sources"][0]["stages"][2], made["masks"]
    found = shown.evaluate(
        """async () => {
          const view = await apmExplorer.unpack(document.getElementById("data").textContent);
          const picture = view.pictures[0], stage = picture.sources[0].stages[2];
          const cut = (how) => [...apmExplorer.islandsOf(stage, { how, number: 5, threshold: 0.7 })];
          const by = { number: cut("number"), threshold: cut("threshold") };
          const score = apmExplorer.scoreOf(by.number, stage.h, stage.w, picture.masks, picture.background);
          return { by, score, cosines: [...apmExplorer.agreement(stage, 11)] };
        }"""
    )
    x = decode(stage)
    np.testing.assert_allclose(found["cosines"], (x @ x[11]).clip(-1, 1), atol=1e-5)
    tree = Tree(stage["tree"].astype(np.int64), np.zeros(0), tuple(stage["tree_shape"]))
    for ours, theirs in (
        (tree.cut(5), found["by"]["number"]),
        (level_islands(x.reshape(1, 8, 8, -1), 0.7)[0], found["by"]["threshold"]),
    ):
        pairs = set(zip(ours.ravel().tolist(), theirs, strict=True))
        assert len(pairs) == len(set(theirs)) == ours.max() + 1  # the same partition under other names
    large = enlarge(tree.cut(5), *masks[0].shape)
    assert found["score"]["covering"] == pytest.approx(np.mean([covering(m, large) for m in masks]))
    assert found["score"]["mbo"] == pytest.approx(np.mean([mbo(m, large, 0) for m in masks]))


def test_a_notebook_hands_over_bytes(opened):
    shown = opened()
    shown.evaluate(
        """() => {
          const text = atob(document.getElementById("data").textContent);
          const place = document.body.appendChild(document.createElement("div"));
          const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
          return apmExplorer.mount(place, new DataView(bytes.buffer));
        }"""
    )
    assert shown.locator("h1").count() == 2 and shown.locator("body > div.apm-explorer canvas.hero").count() == 2


def test_keys_alone_move_the_point_the_layer_and_the_tab(opened):
    shown = opened()
    shown.locator("canvas.hero").first.focus()
    before = caption(shown)
    shown.keyboard.press("ArrowRight")
    after = caption(shown)
    assert "Row 4, column 5" in before and "Row 4, column 6" in after
    assert EVIL in before  # the last layer
    shown.get_by_role("slider", name="layer").focus()
    shown.keyboard.press("ArrowLeft")
    assert caption(shown).startswith("1: b")
    shown.get_by_role("tab", name="Islands").focus()
    shown.keyboard.press("ArrowRight")
    assert shown.get_by_role("tab", name="Test-time training").get_attribute("aria-selected") == "true"
    shown.get_by_role("slider", name="iteration").focus()
    shown.keyboard.press("ArrowLeft")
    assert "Iteration 4: cat" in shown.locator(".trace p").first.inner_text()
    assert shown.locator("canvas[role=img]:not([aria-label])").count() == 0
    assert shown.locator("img:not([alt])").count() == 0


def test_two_networks_under_one_pointer_and_the_cube_lights_the_picture(opened):
    shown = opened()
    shown.get_by_role("button", name="Compare").click()
    settle(shown)
    shown.locator("canvas.hero").nth(1).hover(position={"x": 5, "y": 5})
    assert "Row 1, column 1" in caption(shown) and "Row 1, column 1" in caption(shown, 1)
    assert caption(shown, 1).startswith("2, 3:")  # level 2, iteration 3 of the second network
    shown.get_by_role("button", name="play iteration").click()
    shown.locator(".pane figcaption", has_text="2, 1: ").wait_for()
    shown.get_by_role("button", name="Lasso").click()
    box = shown.locator("canvas.cube").bounding_box()
    shown.mouse.move(box["x"] + 2, box["y"] + 2)
    shown.mouse.down()
    for x, y in ((1, 0), (1, 1), (0, 1)):
        shown.mouse.move(box["x"] + 2 + x * (box["width"] - 4), box["y"] + 2 + y * (box["height"] - 4))
    shown.mouse.up()
    assert "64 chosen in the cube" in caption(shown)
    shown.keyboard.press("Escape")


def test_keys_alone_draw_around_points_of_the_cube(opened):
    shown = opened()
    hint, clear = shown.locator(".cubebox [role=status]"), shown.get_by_role("button", name="Clear")
    canvas = shown.locator("canvas.cube")
    canvas.focus()
    shown.keyboard.press("l")
    first = int(hint.inner_text().split()[0])
    assert 0 < first < 64 and f"{first} chosen in the cube" in caption(shown)  # of the island looked at
    for _ in range(12):
        shown.keyboard.press("+")
    assert hint.inner_text().startswith("64 of 64 in the ring") and "64 chosen in the cube" in caption(shown)
    for _ in range(20):
        shown.keyboard.press("-")
    for _ in range(25):
        shown.keyboard.press("ArrowLeft")  # into the corner, where no point is
    assert "0 chosen in the cube" in caption(shown)
    shown.keyboard.press("Escape")
    assert "chosen" not in caption(shown) and clear.is_disabled() and "ring" not in hint.inner_text()
    shown.get_by_role("button", name="Lasso").click()
    shown.keyboard.press("Escape")
    assert shown.get_by_role("button", name="Lasso").get_attribute("aria-pressed") == "false"
    shown.keyboard.press("Enter")  # the button has the focus
    assert canvas.evaluate("(canvas) => canvas === document.activeElement")
    shown.keyboard.press("Enter")
    assert f"{first} chosen in the cube" in caption(shown) and clear.is_enabled() and "turn it" in hint.inner_text()
    before = canvas.evaluate("(canvas) => canvas.toDataURL()")
    shown.keyboard.press("ArrowLeft")  # turns the cube again
    settle(shown)
    assert canvas.evaluate("(canvas) => canvas.toDataURL()") != before and f"{first} chosen" in caption(shown)
    shown.get_by_role("slider", name="layer").fill("0")  # other features: nothing is chosen among them
    assert "chosen" not in caption(shown) and clear.is_disabled()


def test_a_button_and_a_key_swap_islands_and_class_for_the_patched_ones(opened):
    shown = opened()
    seen = """() => [...document.querySelectorAll(".pane")].map((pane) => pane.querySelector("canvas").toDataURL())"""
    before, words = shown.evaluate(seen)[0], caption(shown)
    assert f"Class: {RIGHT_TO_LEFT} 0.50." in words and "Patched" not in words
    shown.get_by_role("button", name="Patched").click()
    words = caption(shown)
    assert f"Patched at layer 1: {EVIL}." in words and f"{EVIL} 0.75 patched" in words
    assert shown.evaluate(seen)[0] != before and shown.evaluate("window.hacked") is None
    shown.keyboard.press("p")
    assert "Patched" not in caption(shown) and shown.evaluate(seen)[0] == before
    shown.keyboard.press("P")
    shown.get_by_role("slider", name="layer").fill("0")  # before the patched layer nothing is replaced
    settle(shown)
    there, values = shown.evaluate(seen)[0], "document.querySelector('.sheet canvas').toDataURL()"
    first = shown.evaluate(values)
    shown.get_by_role("button", name="Patched").click()
    settle(shown)
    assert shown.evaluate(values) == first and shown.evaluate(seen)[0] != there  # the region's outline alone went
    shown.get_by_label("seen by").first.select_option("1")
    assert shown.get_by_role("button", name="Patched").count() == 0 and "Class" not in caption(shown)


def test_a_patched_picture_is_compared_with_itself(opened, tmp_path):
    made = view(1)
    del made["pictures"][0]["sources"][1]
    (tmp_path / "one.html").write_text(page(made), encoding="utf-8")
    shown = opened(tmp_path / "one.html")
    shown.get_by_role("button", name="Compare").click()
    assert "Patched at" in caption(shown, 1) and "Patched at" not in caption(shown)


def test_islands_are_cut_and_scored_as_asked(opened):
    shown = opened()
    shown.get_by_text("Islands", exact=True).last.click()
    assert "6 islands" in caption(shown) and "covering" in caption(shown)
    shown.get_by_role("slider", name="number").fill("0")
    assert "1 island." in caption(shown)
    shown.get_by_label("islands by").select_option("threshold")
    shown.get_by_role("slider", name="cosine").fill("0")  # -1: all agree
    assert "1 island." in caption(shown)
    shown.get_by_label("outlines of 2 people").uncheck()
    assert "covering" not in caption(shown)


def test_a_table_is_sorted_filtered_and_paged(opened):
    shown = opened()
    shown.get_by_role("tab", name="Tables").click()
    lines = shown.locator(".table").nth(1)
    assert lines.locator("tbody tr").count() == 100 and "250 of 250 rows" in lines.inner_text()
    lines.get_by_role("button", name="loss").click()
    assert lines.locator("tbody tr").first.inner_text().split()[0] == "249"
    assert lines.locator("th[aria-sort=descending]").count() == 1
    lines.get_by_label("filter").fill("17")
    assert "13 of 250 rows" in lines.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_touched_dark_and_still(opened, scheme):
    size = {"width": 400, "height": 800}
    shown = opened(viewport=size, color_scheme=scheme, reduced_motion="reduce", has_touch=True)
    for tab in TABS:
        shown.get_by_role("tab", name=tab).click()
        settle(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 400, tab
    paper, ink = (
        shown.evaluate(f"getComputedStyle(document.getElementById('apm')).{p}") for p in ("backgroundColor", "color")
    )
    lightness = [sum(map(int, c[4:-1].split(", "))) for c in (paper, ink)]
    assert (lightness[0] > lightness[1]) == (scheme == "light") and abs(lightness[0] - lightness[1]) > 500
    shown.get_by_role("tab", name="Islands").click()
    shown.locator("canvas.hero").first.tap(position={"x": 3, "y": 3})
    assert "Row 1, column 1" in caption(shown)


def test_a_charts_numbers_are_round_and_whole(opened, tmp_path):
    made = view(1)
    for step in made["traces"][0]["steps"]:
        step["loss"] = 0.1 ** (step["iteration"] + 0.3)
    (tmp_path / "one.html").write_text(page(made), encoding="utf-8")
    shown = opened(tmp_path / "one.html")
    shown.evaluate(
        """() => {
          window.written = [];
          const write = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
            if (this.textAlign === "right") written.push([text, x - this.measureText(text).width]);
            write.call(this, text, x, y);
          };
        }"""
    )
    shown.get_by_role("tab", name="Test-time training").click()
    shown.get_by_role("slider", name="iteration").fill("2")
    settle(shown)
    written = dict(shown.evaluate("written"))
    assert set(written) == {"1e-4", "0.01", "0", "0.5", "1"} and min(written.values()) >= 0, written


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_who_wants_little_motion_gets_little(opened, motion):
    shown, still = opened(reduced_motion=motion), motion == "reduce"
    shown.evaluate(
        """() => {
          window.paces = []; window.ways = [];
          const every = window.setInterval;
          window.setInterval = (act, pace) => { paces.push(pace); return every(act, pace); };
          Element.prototype.scrollIntoView = (how) => ways.push(how.behavior);
        }"""
    )
    shown.get_by_role("button", name="play layer").click()
    shown.get_by_role("tab", name="Tables").click()
    shown.get_by_role("button", name="A", exact=True).click()
    assert shown.evaluate("[paces, ways]") == ([[1600], ["auto"]] if still else [[700], ["smooth"]])
    moves = (
        "[...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration)).length"
    )
    assert shown.evaluate(moves) == 0  # nothing moves by itself


def test_a_large_page_answers_at_once(opened, tmp_path):
    """Three pictures of 16 layers; a table of 15 conditions, 14 methods and 200 pictures."""
    made = view(3)
    for number, picture in enumerate(made["pictures"]):
        blocks = grids(16, 28, 48, seed=number)
        picture["sources"] = [layered("deep", [("layer", [str(i) for i in range(16)])], blocks)]
    rng, names = np.random.default_rng(0), [f"{i}.png" for i in range(200)]
    buffer = io.BytesIO()
    make_image(0, (96, 96)).save(buffer, "JPEG")
    sets = [{"names": names, "classes": list("abcdefghij"), "images": np.arange(200, dtype=np.int16)}]
    labels, rows, held = np.arange(200, dtype=np.int16) % 10, [], {}
    for c in (f"condition {n}" for n in range(15)):
        held[c] = {"set": 0, "labels": labels}
        held[c]["answers"] = {f"method {m}": rng.integers(0, 10, 200).astype(np.int16) for m in range(14)}
        rows += [counted(m, c, labels, said) for m, said in held[c]["answers"].items()]
    made["tables"] = [answers_table("large", rows, sets, held, [buffer.getvalue()] * 200)]
    path = tmp_path / "large.html"
    path.write_text(page(made), encoding="utf-8")
    assert path.stat().st_size < 10_000_000
    shown = opened(path)
    taken = []
    for x in range(1, 9):
        shown.locator("canvas.hero").first.hover(position={"x": 40 * x, "y": 30 * x})
        settle(shown)
        taken.append(float(shown.locator(".islands").get_attribute("data-ms")))
    assert min(taken) < 50, taken  # of a machine that others use too
    shown.get_by_role("tab", name="Tables").click()
    typed = """(word) => {
      const find = document.querySelector(".table input[type=search]"), begun = performance.now();
      find.value = word;
      find.dispatchEvent(new Event("input"));
      document.body.getBoundingClientRect();
      return performance.now() - begun;
    }"""
    assert min(shown.evaluate(typed, word) for word in ("method 3", "condition 1", "", "5")) < 200
    assert "of 210 rows" in shown.locator(".table [role=status]").inner_text()


def test_a_thousand_pictures_are_paged(opened, tmp_path):
    whole = view(1)
    [picture] = whole.pop("pictures")
    filling = np.random.default_rng(0).bytes(20_000)  # behind a JPEG's end, where nobody looks
    pages = Pages(tmp_path / "many.html", whole)
    for number in range(1000):
        more = picture["image"] + filling[number:] + filling[:number]
        pages.add({**picture, "name": f"{number} {EVIL}", "image": more, "sources": picture["sources"][:1]})
    written = pages.close()
    assert 2 < len(written) < 6 and all(path.stat().st_size < 10_000_000 for path in written)
    shown = opened(written[1])
    assert 0 < busy(shown) < 2
    assert shown.locator(".strip button").count() == 12 and "1 to 12 of" in shown.locator(".pager").inner_text()
    shown.get_by_role("button", name="later").click()
    assert "13 to 24 of" in shown.locator(".pager").inner_text() and shown.evaluate("window.hacked") is None


def test_pictures_that_do_not_fit_go_on_further_pages(opened, tmp_path):
    whole = view(5)
    pictures = whole.pop("pictures")
    most = len(page({**whole, "pictures": pictures[:2]})) + 5000
    pages = Pages(tmp_path / "p age.html", whole, most)
    for picture in pictures:
        pages.add(picture)
    written = pages.close()
    assert [p.name for p in written[:2]] == ["p age.html", "p age-2.html"] and len(written) < 5
    assert all(p.stat().st_size <= most for p in written)
    shown, found = opened(written[0]), 0
    for number in range(len(written)):
        found += shown.locator(".strip button").count()  # of one picture alone too
        assert (shown.get_by_role("link", name="earlier").count() == 1) == (number > 0)
        if number < len(written) - 1:
            shown.get_by_role("link", name="further pictures").click()
            shown.wait_for_selector(f"[data-ready=true] nav:has-text('page {number + 2}')")
    assert found == 5
