"""`docs/claims.md`, made from judged claims alone: the same results give the same text."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.claims.rules import IN_WORDS
from experiments.claims.run import HINTON, HOME, NOT, OURS, POSTER, PRINTED, REPRODUCED, UNTESTED, Judged, counts

HEAD = """# The poster's claims

Made by `apm claims` from result files; `apm claims --check` says whether this page is what they give. The claims of
Modi & Rawat are those of "Asynchronous Perception Machine For Efficient Test Time Training", NeurIPS 2024, in our
words, each counted once; Hinton's (2021, 2022), on which the poster builds, and what this project asks beside them are
counted apart. Every verdict is computed from numbers in a result file by the rules below, which
`experiments/claims/rules.py` holds.

"""
MEANINGS = {
    REPRODUCED: "it holds in the published setting",
    HOME: "it holds here, on other data or smaller networks",
    NOT: "it did not hold; *at home scale*: the published setting was not run, so no refutation",
    UNTESTED: "data, weights or a result file are missing, or what there is decides nothing",
}
PARTS = {
    POSTER: "Claims of Modi & Rawat",
    HINTON: "Claims of Hinton's on which the poster builds",
    OURS: "Asked here, and claimed by nobody",
}


def as_markdown(judged: Sequence[Judged]) -> str:
    """The page: verdicts counted by whose the claims are, the rules, then a table a panel or table of the poster."""
    parts = [HEAD + _counts(judged), "## The rules\n"]
    parts += [IN_WORDS, ""]
    for source, title in PARTS.items():
        own = [j for j in judged if j.claim.source == source]
        if own:
            parts.append(f"## {title}\n")
        for place in dict.fromkeys(j.claim.place for j in own):
            parts += _table(place, [j for j in own if j.claim.place == place])
    return "\n".join(parts).rstrip() + "\n"


def _counts(judged: Sequence[Judged]) -> str:
    found = counts(judged)
    head = f"| verdict | what it means | {' | '.join(PARTS)} |\n|---|---|{'--:|' * len(PARTS)}\n"
    rows = [
        f"| {name} | {meaning} | {' | '.join(str(found[s][name]) for s in PARTS)} |"
        for name, meaning in MEANINGS.items()
    ]
    return head + "\n".join(rows) + "\n"


def _table(place: str, own: Sequence[Judged]) -> list[str]:
    parts = [f"### {place}\n", "| claim | verdict | figures | decided by |\n|---|---|---|---|"]
    parts += [_row(j) for j in own]
    commands = dict.fromkeys(j.command for j in own if j.command)
    if commands:
        parts.append("\n" + "\n".join(f"    {command}" for command in commands))
    return [*parts, ""]


def _row(judged: Judged) -> str:
    file = judged.file.replace(PRINTED, "printed ")
    decided = ": ".join(part for part in (f"`{file}`" if file else "", judged.checks) if part)
    cells = [judged.claim.claim, verdict(judged), judged.figures, decided or "-"]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def verdict(judged: Judged) -> str:
    """The verdict as the page says it: in bold where it is one, with its scale where it failed."""
    if judged.verdict == UNTESTED:
        return judged.verdict
    if judged.verdict == NOT and not judged.published:
        return f"**{NOT}** at home scale"
    return f"**{judged.verdict}**" if judged.verdict in (REPRODUCED, NOT) else f"**{REPRODUCED}** at home scale"
