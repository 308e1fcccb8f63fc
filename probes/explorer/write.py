"""The page itself: one HTML file with everything in it, and as many as pictures need."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from glom.runs.files import to_bytes, write_whole
from probes.explorer.pack import pack
from probes.explorer.shape import Picture, View, worst_of

PAGE_BYTES = 9_500_000  # of a page; what does not fit goes on another
ELEMENTS = ('document.getElementById("apm")', 'document.getElementById("data").textContent')
PUBLIC = "return { mount, unpack, agreement, islandsOf, scoreOf };"
MARK = b'content="glom-apm explorer"'
SCRIPTS = ("data", "paint", "controls", "cube", "islands", "charts", "table", "app")


@cache
def script() -> str:
    """What the browser runs: the files of `page/`, one behind another, in a function of their own."""
    parts = [_text(f"{name}.js") for name in SCRIPTS]
    return '"use strict";\nconst apmExplorer = (() => {\n' + "\n".join(parts) + "\n" + PUBLIC + "\n})();\n"


@cache
def style() -> str:
    """How it looks; all of it below `.apm-explorer`, so that a notebook stays as it is."""
    return _text("style.css")


def page(view: Mapping[str, Any]) -> str:
    """The page of a view.

    Nothing that a name could hold stands in it as text, but for the title, which is escaped: all else is in the packed
    data. Its own policy forbids every script but this one, and every request.
    """
    return _page(str(view["title"]), pack(view))


def _page(title: str, packed: bytes) -> str:
    code = script() + "apmExplorer.mount(" + ", ".join(ELEMENTS) + ");\n"
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    held = {
        "title": html.escape(to_bytes(title).decode()),
        "policy": policy,
        "style": style(),
        "data": base64.b64encode(packed).decode(),
    }
    text = _text("page.html")
    for name, value in held.items():
        text = text.replace("{{ " + name + " }}", value, 1)
    return text.replace("{{ script }}", code, 1)


def is_page(path: Path) -> bool:
    """Whether a file is a page of this kind, which a new one may replace."""
    with path.open("rb") as file:
        return MARK in file.read(400)


class Pages:
    """Pages written while pictures come in: a new one begins where the last is full.

    Args:
        path: of the first page, `NAME.html`; the others are `NAME-2.html`, ...
        view: what stands on the first page besides its pictures.

    Attributes:
        written: the pages so far. pictures: how many there are on all. worst: the greatest error of a cosine in them.
    """

    def __init__(self, path: Path, view: View, most: int = PAGE_BYTES) -> None:
        self.path, self.view, self.most = path, view, most
        self.written: list[Path] = []
        self.pictures, self.worst = 0, 0.0
        self._begin(view)

    def add(self, picture: Picture) -> None:
        """One more picture; raises `RunError` where a full page cannot be written."""
        size = _embedded(pack(picture))
        if self._waiting and self._size + size > self.most:
            self._flush(more=True)
            self._begin({"title": self.view["title"], "facts": self.view["facts"], "notes": []})
        self._waiting.append(picture)
        self._size += size
        self.pictures += 1
        self.worst = max([self.worst, *map(worst_of, picture["sources"])])

    def close(self) -> list[Path]:
        """Write the last page; returns all of them."""
        self._flush(more=False)
        return self.written

    def _begin(self, view: View) -> None:
        self._held, self._waiting = dict(view), list[Picture]()
        self._size = len(script()) + len(style()) + _embedded(pack(view)) + 4096

    def _name(self, number: int) -> Path:
        return self.path if number == 1 else self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")

    def _flush(self, more: bool) -> None:
        number = len(self.written) + 1
        if self._waiting:
            self._held["pictures"] = self._waiting
        if number > 1 or more:
            before = self._name(number - 1).name if number > 1 else None
            after = self._name(number + 1).name if more else None
            self._held["pages"] = {"number": number, "before": before, "next": after}
        write_whole(self._name(number), to_bytes(_page(self.view["title"], pack(self._held))))
        self.written.append(self._name(number))


def _embedded(packed: bytes) -> int:
    return -(-len(packed) // 3) * 4


def _text(name: str) -> str:
    return (files("probes.explorer") / "page" / name).read_text(encoding="utf-8")
