"""Islands in a notebook: a widget where there can be one, a picture elsewhere, and the page of either."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import probes
from glom.errors import InputError
from probes.explorer import unpack
from probes.look import Islands
from probes.patched import patch_name
from tests.conftest import make_image


@pytest.fixture(scope="module")
def found() -> Islands:
    return probes.islands(make_image(1, (48, 32)), layers="first,last", size=32, device="cpu")


def test_a_widget_holds_the_view_and_a_picture_for_who_shows_none(found):
    pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
    widget = found.widget()
    held = unpack(widget.data)
    assert [a["labels"] for a in held["pictures"][0]["sources"][0]["axes"]] == [["0: blocks.0", "5: blocks.5"]]
    assert "export default { render(" in widget._esm and ".apm-explorer" in widget._css
    data, _ = found._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and data["text/html"].startswith("<figure")


def test_patches_are_in_the_widgets_view():
    asked = {"layers": "first,last", "size": 32, "device": "cpu"}
    patches = [(0, (0.5, 0.5), "zero"), (-1, np.ones((32, 48), bool), np.zeros(48, np.float32))]
    seen = probes.islands(make_image(1, (48, 32)), patches=patches[:1], **asked)
    [source] = seen.view()["pictures"][0]["sources"]
    [patch] = source["patches"]
    assert patch["name"] == "layer 0, 0.5,0.5: zero" and len(patch["stages"]) == 2 and len(source["said"]) == 5
    assert (
        patch_name(*patches[1]) == "layer -1, a mask: features"
        and patch_name(1, "all", b"") == "layer 1, all: a picture"
    )
    with pytest.raises(InputError, match="leave `finer` out"):
        probes.islands(make_image(1, (48, 32)), patches=patches, finer=2, **asked)
    with pytest.raises(InputError, match="no layer is read from the patched one on, 5"):
        probes.islands(make_image(1, (48, 32)), patches=[(-1, "all", "zero")], **asked | {"layers": "0"})


def test_without_the_package_the_picture_is_shown_and_said(found, monkeypatch):
    from probes.explorer import widget

    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget._kind.cache_clear()
    with pytest.raises(InputError, match=r"glom-apm\[notebook\]"):
        found.widget()
    assert set(found._repr_mimebundle_()) == {"text/html", "text/plain"}
    widget._kind.cache_clear()


def test_the_page_of_it(found, tmp_path):
    path = found.export(tmp_path / "sub" / "page.html", "a <b>.jpg")
    text = path.read_text(encoding="utf-8")
    assert path.name == "page.html" and "<title>a &lt;b&gt;.jpg, mvit-v2-tiny</title>" in text and len(text) < 1_000_000
