"""`claims.toml`, read: blocks of data become claims.

A `[[claim]]` holds the fields of `Claim`; each table of its `evidence` those of `Evidence`. Besides, in either:

    like = "NAME"         it has all of `[template.NAME]` that it does not say itself; `values` are joined
    each = [{...}, ...]   of a claim: one for every entry, the entry's keys being added to the block's own
    $word                 in any text: what the block says under `word`. A block with `table` and `method` also has what
                          is printed there, $average and $said; with `over`, another method, also $gain and $claimed
    {a,b} {0..6}          in `values` and checks: a line for each; all braces of a line are gone through together
    checks                (also `against`, `needs`) lists of a rule's name and what it is given, by `rules.RULES`
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from string import Formatter, Template
from typing import Any

from experiments.claims.rules import RULES
from experiments.claims.run import SOURCES, Check, Claim, Evidence, printed_arithmetic
from glom.errors import InputError, unknown

CLAIMS = Path(__file__).with_name("claims.toml")
KINDS: dict[str, type] = {"evidence": list, "each": list, "values": dict, "published": bool}
KINDS |= dict.fromkeys(("checks", "against", "needs"), list)
CALLED = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
OTHER = ("like", "each", "table", "method", "over")  # keys of a block that are no field
Block = dict[str, Any]


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a file, in its order.

    Raises:
        InputError: a file that is not there or no TOML; a block with an unknown key, rule, template, `$word` or value
            (with the nearest names), without a text that it needs, or with a wrong kind of entry.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from error
    claims: list[Claim] = []
    where = path.name
    try:
        templates, blocks = data.pop("template", {}), _tables("claim", data.pop("claim", []))
        for section in data:
            raise unknown("section", section, ("claim", "template"))
        for i, block in enumerate(blocks, 1):
            for entry in _tables("each", block.get("each", [{}])):
                own = {key: value for key, value in {**block, **entry}.items() if key != "each"}
                where = f"{path.name}, claim {i} ('{own.get('claim', '')}')"
                claims.append(_claim(_whole(own, templates), templates))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return claims


def _tables(key: str, data: Any) -> list[Block]:
    if not isinstance(data, list) or not all(isinstance(block, dict) for block in data):
        raise InputError(f"'{key}' is a list of tables, not {data!r}")
    return data


def _whole(block: Block, templates: Mapping[str, Block], above: tuple[str, ...] = ()) -> Block:
    """A block with all that the templates it is like say."""
    name = block.get("like")
    if name is None:
        return block
    if not isinstance(templates, dict) or not isinstance(templates.get(name), dict):
        raise unknown("template", str(name), templates)
    if name in above:
        raise InputError(f"the template '{name}' is like itself")
    base = _whole(templates[name], templates, (*above, name))
    joined = {"values": {**base["values"], **block["values"]}} if "values" in base and "values" in block else {}
    return {**base, **block, **joined}


def _claim(block: Block, templates: Mapping[str, Block]) -> Claim:
    evidence = [_whole(e, templates) for e in _tables("evidence", block.get("evidence", []))]
    words = {**block, **_printed(block)}
    block = _filled(Claim, {**block, "evidence": evidence}, words)
    if (source := block.get("source", SOURCES[0])) not in SOURCES:
        raise unknown("source", source, SOURCES)
    return Claim(**block, evidence=tuple(_evidence(e, words) for e in evidence))


def _evidence(block: Block, words: Mapping[str, Any]) -> Evidence:
    block = _filled(Evidence, block, {**words, **block})
    values = {name: str(path) for line in block["values"].items() for name, path in _spread(line)}
    known = [*values, *(["pictures"] if block.get("n") else [])]
    try:
        shown = [name for _, name, _, _ in Formatter().parse(block["says"]) if name is not None]
    except ValueError as error:
        raise InputError(f"'says' is no format: {error}") from error
    checks = {key: tuple(_checks(block.get(key, ()))) for key in ("checks", "against", "needs")}
    asked = (name for check in sum(checks.values(), ()) for name in (check.value, check.bound))
    for name in (*shown, *(name for name in asked if isinstance(name, str))):
        if name not in known:
            raise unknown("value", name, known)
    return Evidence(**{**block, **checks, "values": values})


def _filled(kind: type, block: Block, words: Mapping[str, Any]) -> Block:
    """The fields of a claim or of evidence that a block has, `$words` put in."""
    needed = {"claim", "place"} if kind is Claim else {"file", "values", "says"}
    names = [field.name for field in fields(kind)]
    used = re.findall(r"\$(\w+)", repr(block))
    for key in block:
        if key not in (*names, *OTHER, *used):
            raise unknown("key", key, (*names, *OTHER))
    for key in sorted(needed - set(block)):
        raise InputError(f"{'evidence' if kind is Evidence else 'a claim'} needs '{key}'")
    found = {key: _fill(block[key], words) for key in names if key in block and key != "evidence"}
    for key, value in found.items():
        if not isinstance(value, KINDS.get(key, str)):
            raise InputError(f"'{key}' is {CALLED[KINDS.get(key, str)]}, not {value!r}")
    return found


def _fill(data: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(data, dict):
        return {key: _fill(value, words) for key, value in data.items()}
    if isinstance(data, list):
        return [_fill(value, words) for value in data]
    if not isinstance(data, str):
        return data
    if data.startswith("$") and data[1:] in words:
        return words[data[1:]]  # a number stays one
    try:
        return Template(data).substitute(words)
    except KeyError as error:
        raise unknown("$word", str(error.args[0]), words) from error
    except ValueError as error:
        raise InputError(f"'{data}': {error}") from error


def _printed(block: Block) -> dict[str, Any]:
    """What the poster prints of a block's method: its average by its own row, and its gain over another method's."""
    if "table" not in block or "method" not in block:
        return {}
    rows = {str(row["method"]): row for row in printed_arithmetic(block["table"])["rows"]}
    for method in (block["method"], block.get("over", block["method"])):
        if method not in rows:
            raise unknown(f"method of table {block['table']}", str(method), rows)
    row = rows[block["method"]]
    found = {"average": row["recomputed"], "said": f"average {row['recomputed']:.1f}"}
    if abs(row["off"]) > 0.1001:
        found["said"] += f" (printed {row['printed']:g})"
    if "over" in block:
        gain = found["gain"] = row["recomputed"] - rows[block["over"]]["recomputed"]
        found["claimed"] = f"{gain:+.1f}"
        found["said"] += f", {gain:+.1f} over {block['over']}"
    return found


def _checks(lines: Iterable[Any]) -> Iterable[Check]:
    for line in lines:
        if not isinstance(line, list) or not line or not isinstance(line[0], str):
            raise InputError(f"a check is a list of a rule's name and what it is given, not {line!r}")
        if line[0] not in RULES:
            raise unknown("rule", line[0], RULES)
        for name, *given in _spread(line):
            try:
                yield from RULES[name](*given)
            except TypeError as error:
                takes = ", ".join(inspect.signature(RULES[name]).parameters)
                raise InputError(f"the rule '{name}' takes {takes}, not {given}") from error


def _spread(line: Sequence[Any]) -> Iterable[list[Any]]:
    """A line for every name in its braces: ("at{2,4}", "x/{0..1}") -> ["at2", "x/0"], ["at4", "x/1"]."""
    groups = [_names(inner) for part in line for inner in re.findall(r"\{([^{}]*)\}", str(part))]
    if len({len(group) for group in groups}) > 1:
        raise InputError(f"braces of one line name as many each, not {', '.join(str(len(g)) for g in groups)}: {line}")
    for i in range(len(groups[0]) if groups else 1):
        pick = partial(re.sub, r"\{([^{}]*)\}", lambda found, i=i: _names(found[1])[i])
        yield [pick(part) if isinstance(part, str) else part for part in line]


def _names(inner: str) -> list[str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    return [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else inner.split(",")
