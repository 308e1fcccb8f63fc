"""Figures of the pages, bound to the records that hold them.

A figure, or the last few on a line, is bound by a comment after it, which a reader of the page does not see:

    covering 0.430 [0.41, 0.45]<!-- = islands-x.json held_out/covering ci95/covering/0 ci95/covering/1 -->

one path a figure, as `experiments.claims.run.look_up` reads paths; `100*PATH` for a share written in percent. The
figure is rewritten in the form in which it stands: decimals, sign, thousands. A table made from records stands between
`<!-- table NAME -->` and `<!-- end -->`; `experiments.claims.page_tables` makes it. A block of text whose figures no
record holds says so to its reader ("not recorded"), or `<!-- settings -->`: what was asked for or printed elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.claims.run import Results, look_up
from glom.errors import InputError

Tables = Mapping[str, Callable[[Results], str]]
COMMENT = re.compile(r"<!-- = (.*?) -->", re.S)
TABLE = re.compile(r"<!-- table (\S+) -->\n(.*?)<!-- end -->", re.S)
NUMBER = re.compile(r"(?<![\w.])[+\-−]?\d[\d,]*(?:\.\d+)?(?:e[+\-]?\d+)?(?![\w])")
FIGURE = re.compile(r"(?<![\w.,/-])[+\-−]?\d[\d,]*(?:\.\d+(?![\w.])|(?<!95) %)")  # 95 % is a level
WORD = re.compile(r"(?:\[[^\]]*\]|\S)+")  # a path may pick a row by a name with blanks
FENCE = re.compile(r"^```.*?^```", re.S | re.M)
NAMED = r"Python \d\.\d+|arXiv \d{4}\.\d+|[Ss]ections? \d\.\d(?: to \d\.\d)?"  # numbers that are names
CODE = re.compile(NAMED + r"|^(?: {4}.*\n?)+|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.S | re.M)
KNOWN = ("not recorded", "<!-- settings -->")


@dataclass
class Page:
    """A page's text as its records give it.

    Attributes:
        text: with every bound figure and table rewritten.
        stale: what stood there instead, a line each.
        bound: how many figures are bound. unbound: those of the blocks that say nothing of them.
    """

    text: str
    stale: list[str] = field(default_factory=list)
    bound: int = 0
    unbound: list[str] = field(default_factory=list)


def pages(root: Path) -> list[Path]:
    """README and docs, without the page that `apm claims` makes."""
    return [root / "README.md", *sorted(p for p in (root / "docs").rglob("*.md") if p.name != "claims.md")]


def rewrite(text: str, results: Results, tables: Tables) -> Page:
    """A page as the records give it.

    Raises:
        InputError: a comment that names no record, no path, or more figures than stand before it; an unknown table.
    """
    found = Page(text)
    found.text = TABLE.sub(lambda m: _table(m, results, tables, found), text)
    parts: list[str] = []
    at = 0
    for match in COMMENT.finditer(found.text):
        parts += [_bind(found.text[at : match.start()], WORD.findall(match.group(1)), results, found), match.group()]
        at = match.end()
    found.text = "".join([*parts, found.text[at:]])
    found.unbound = unbound(found.text)
    return found


def _table(match: re.Match[str], results: Results, tables: Tables, found: Page) -> str:
    name = match.group(1)
    if name not in tables:
        raise InputError(f"no table '{name}' can be made; there are {', '.join(tables)}")
    made = f"<!-- table {name} -->\n{tables[name](results)}<!-- end -->"
    if made != match.group():
        found.stale.append(f"table {name}")
    found.bound += len(FIGURE.findall(made))
    return made


def _bind(before: str, words: Sequence[str], results: Results, found: Page) -> str:
    """The text before a comment, its last figures rewritten."""
    file, paths = words[0], words[1:]
    data = results.get(file)
    numbers = list(NUMBER.finditer(before))[-len(paths) :] if paths else []
    if data is None or len(numbers) != len(paths) or not paths:
        what = "is no record" if data is None else f"has {len(paths)} paths for {len(numbers)} figures before it"
        raise InputError(f"'<!-- = {' '.join(words)[:80]} -->': {file} {what}")
    for number, path in reversed(list(zip(numbers, paths, strict=True))):
        factor, _, inner = path.partition("*")
        scaled = factor.replace(".", "", 1).isdigit()  # a `*` elsewhere is the path's own
        try:
            value = float(look_up(data, inner if scaled else path)) * (float(factor) if scaled else 1)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{file} has no number at {path}") from error
        written = alike(value, number.group())
        if written != number.group():
            line = before[: number.start()].rpartition("\n")[2]
            found.stale.append(f"'{line[-60:]}{number.group()}': {file} {path} gives {written}")
        before = before[: number.start()] + written + before[number.end() :]
        found.bound += 1
    return before


def alike(value: float, written: str) -> str:
    """A number in the form of another one.

    Example:
        >>> alike(1234.56, "9,876"), alike(0.126, "-0.50"), alike(3e-7, "1.2e-06"), alike(9.5, "12.25")
        ('1,235', '+0.13', '3.0e-07', '9.50')
    """
    mantissa, e, _ = written.partition("e")
    decimals = len(mantissa.partition(".")[2])
    sign = "+" if written[0] in "+-−" else ""
    text = f"{value:{sign}{',' if ',' in written else ''}.{decimals}{'e' if e else 'f'}}"
    return re.sub(r"e([+-])0(\d)$", r"e\1\2", text) if e and re.search(r"e[+-]?\d$", written) else text


def unbound(text: str) -> list[str]:
    """Decimals and percentages of a page that nothing holds, out of blocks that do not say so."""
    text = FENCE.sub("", TABLE.sub("", text))
    left = []
    for block in re.split(r"\n\s*\n|\n(?=- )", text):
        if any(word in block for word in KNOWN):
            continue
        cut, at = "", 0
        for match in COMMENT.finditer(block):
            before = block[at : match.start()]
            for number in list(NUMBER.finditer(before))[-(len(WORD.findall(match.group(1))) - 1) :][::-1]:
                before = before[: number.start()] + before[number.end() :]
            cut, at = cut + before, match.end()
        bare = CODE.sub(" ", cut + block[at:])
        left += [f"{bare[max(0, m.start() - 40) : m.end() + 20].strip()!r}" for m in FIGURE.finditer(bare)]
    return left
