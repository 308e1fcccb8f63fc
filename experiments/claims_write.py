"""`docs/claims.md`, made from judged claims alone: the same results give the same text."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.claims import NOT, PRINTED, REPRODUCED, UNTESTED, Judged, counts

HEAD = """# The poster's claims

Made by `apm claims` from result files; `apm claims --check` says whether this page is what they give. The claims are
those of Modi & Rawat, "Asynchronous Perception Machine For Efficient Test Time Training", NeurIPS 2024, in our words.
Every verdict is computed from numbers in a file of `benchmarks/results`; `experiments/claims_*.py` name the file, the
numbers and the bounds.

| verdict | what it means | claims |
|---|---|--:|
| reproduced | it holds in the published setting | {0} |
| reproduced at home scale | it holds here, on other data or smaller networks | {1} |
| not reproduced | it did not hold; *at home scale*: the published setting was not run, so no refutation | {2} |
| could not be tested here | data, weights or a result file are missing, or what there is decides nothing | {3} |
"""


def as_markdown(judged: Sequence[Judged]) -> str:
    """The page: a count of verdicts, then a table a panel or table of the poster."""
    parts = [HEAD.format(*counts(judged).values())]
    for place in dict.fromkeys(j.claim.place for j in judged):
        own = [j for j in judged if j.claim.place == place]
        parts.append(f"## {place}\n")
        parts.append("| claim | verdict | figures | decided by |\n|---|---|---|---|")
        parts += [_row(j) for j in own]
        commands = dict.fromkeys(j.command for j in own if j.command)
        if commands:
            parts.append("\n" + "\n".join(f"    {command}" for command in commands))
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


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
