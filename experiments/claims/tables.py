"""Every row of the poster's four tables as a claim, made from the printed tables themselves.

Tables 1 to 3: a row's average, and its gain over the table's teacher, at poster scale, where such a run on all of the
published data is among the results. At home scale the data are others, so that a number decides nothing; whether a
method gains over the table's teacher, as printed, does. An interval that holds both no gain and the published one
contradicts neither: it decides nothing.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.claims.rules import COUNT, WITHIN, printed
from experiments.claims.run import OURS, PRINTED, Check, Claim, Evidence, printed_arithmetic, reproduced
from experiments.published import published_table

OWN = ("Joint Train", "Fine-Tune", "ViT Probe", "TTT-MAE")  # trained on the task: no gain over the teacher is claimed
BASES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"CLIP-ViT-B/16": ("Ensemble", "TPT", "APM (CLIP-ViT-B/16)", "CoOp", "CoCoOp", "TPT + CoOp", "TPT + CoCoOp"),
        "CLIP-ViT-L/14": ("APM (CLIP-ViT-L/14)",), "OpenCLIP-ViT-H/14": ("APM (OpenCLIP-ViT-H/14)",)},
    2: {"OpenCLIP ViT-L/14": ("APM",)},
    3: {"CLIP-ViT-B/16": ("CoOp", "CoCoOp", "Ensemble", "TPT", "APM")},
}  # fmt: skip
LEARNED = {"CoOp": "coop", "CoCoOp": "cocoop"}  # prompts learned from a few pictures of the classes they are tested on
WHOLE, LIMITED = (Check("limit", "<=", 0),), "made with --limit: a part of the data decides nothing"
NOT_RUN = "the published data sets and weights could not be had where the results were made"


def table_claims() -> list[Claim]:
    """Headlines and rows of tables 1 to 3, then table 4."""
    found: list[Claim] = []
    for number in (1, 2, 3):
        found += [*_headlines(number), *_rows(number)]
    return [*found, *_computation()]


def averages() -> list[Claim]:
    """What is asked of the printed tables themselves."""
    return [_averages(number) for number in (1, 2, 3)]


def _averages(number: int) -> Claim:
    """Whether the printed averages are the printed rows' own."""
    return Claim(
        "The printed tables",
        f"Table {number}'s printed averages are the means of its own rows (to 0.1 of rounding).",
        (
            Evidence(
                f"{PRINTED}table{number}",
                {"largest_off": "largest_off"},
                (Check("largest_off", "<=", 0.1 + 1e-6),),
                "the largest difference is {largest_off:.2f} points",
                True,
                f"apm reproduce table{number} --dry-run",
            ),
        ),
        source=OURS,
    )


def _base(number: int, method: str) -> str:
    return next((base for base, rows in BASES[number].items() if method in rows), "")


def gain_checks(claimed: float, low: str, high: str, within: float = 0.0) -> tuple[Check, tuple[Check, Check]]:
    """What shows a claimed gain, or loss, and what contradicts it; an interval that does neither decides nothing.

    Args:
        claimed: published, in points; below 0 a loss.
        low, high: names of the measured interval's bounds.
        within: points by which the published number may be off.

    Returns:
        For a gain: it is above nothing; all of the interval lies below the published gain, or at most at nothing.
    """
    edge = round(claimed - within if claimed > 0 else claimed + within, 2)
    if claimed > 0:
        return Check(low, ">", 0), (Check(high, "<", edge), Check(high, "<=", 0))
    return Check(high, "<", 0), (Check(low, ">", edge), Check(low, ">=", 0))


def undecided(claimed: float) -> str:
    """What is said of an interval of a gain that decides nothing."""
    return f"undecided: the interval holds both no gain and the published {claimed:+.1f}; too few pictures"


def _rows(number: int) -> list[Claim]:
    claims = []
    printed = {str(r["method"]): r for r in printed_arithmetic(number)["rows"]}
    for method, row in printed.items():
        base = _base(number, method)
        average = float(row["recomputed"])
        gain = average - float(printed[base]["recomputed"]) if base else 0.0
        text = f"{method}: average {average:.1f}"
        text += "" if abs(row["off"]) <= 0.1001 else f" (printed {row['printed']:g})"
        text += f", {gain:+.1f} over {base}" if base else ""
        evidence = (_at_poster(number, method, average, gain), _at_home(number, method, gain))
        learned = (_few_shot(LEARNED[method], gain),) if number == 1 and method in LEARNED else ()
        claims.append(Claim(f"Table {number}", text + ".", (*evidence, *learned), NOT_RUN))
    return claims


def _values(method: str, gain: float) -> dict[str, str]:
    """Paths to a row's average, and to its gain over the table's teacher where one is claimed."""
    chosen = f"rows[published_method={method}][kind=average]/"
    values = {"measured": "measured", "low": "ci95/0", "high": "ci95/1", "n": "n"}
    if gain:
        values |= {"gain": "gain/measured", "gain_low": "gain/ci95/0", "gain_high": "gain/ci95/1"}
    return {name: chosen + path for name, path in values.items()}


def _at_poster(number: int, method: str, average: float, gain: float) -> Evidence:
    """On the published data: the average, and the gain where one is claimed, are the printed row's own."""
    values = _values(method, gain)
    # A difference from the published average is there only where all of the data are the published ones.
    values |= {"limit": "limit", "same": f"rows[published_method={method}][kind=average]/difference"}
    checks = [Check("low", "<=", average + WITHIN), Check("high", ">=", average - WITHIN)]
    against = [Check("low", ">", average + WITHIN), Check("high", "<", average - WITHIN)]
    says = "measured {measured:.1f} [{low:.1f}, {high:.1f}] over {n:,} answers"
    if gain:
        shows, contradicts = gain_checks(gain, "gain_low", "gain_high", WITHIN)
        checks, against = [*checks, shows, _reaches(contradicts[0])], [*against, *contradicts]
        says += ", over its teacher {gain:+.2f} [{gain_low:+.2f}, {gain_high:+.2f}]"
    return Evidence(
        reproduced(f"table{number}", "poster"),
        values,
        tuple(checks),
        says,
        True,
        f"apm reproduce table{number} --scale poster --out DIR",
        tuple(against),
        undecided(gain),
        WHOLE,
        LIMITED,
        f"has no average of {method} on all of the published data",
    )


def _reaches(misses: Check) -> Check:
    """The opposite of a check that an interval misses the published gain."""
    return replace(misses, relation={"<": ">=", ">": "<="}[misses.relation])


def _at_home(number: int, method: str, gain: float) -> Evidence:
    """On other data: a number alone decides nothing; a gain is there or not, as far as the pictures tell."""
    home = reproduced(f"table{number}", "home")
    command = f"apm reproduce table{number} --out DIR --record benchmarks/results/{home}"
    lacking = f"has no measured average of {method}"
    if not gain:
        says = "other data and networks: {measured:.1f} [{low:.1f}, {high:.1f}]"
        return Evidence(home, _values(method, gain), (), says, command=command, lacking=lacking)
    shows, against = gain_checks(gain, "gain_low", "gain_high")
    return Evidence(
        home,
        _values(method, gain),
        (shows,),
        "other data: {measured:.1f} [{low:.1f}, {high:.1f}], over its teacher {gain:+.2f} [{gain_low:+.2f}, "
        "{gain_high:+.2f}]",
        command=command,
        against=against,
        undecided=undecided(gain),
        lacking=lacking,
    )


def _few_shot(method: str, gain: float) -> Evidence:
    """Prompts learned from 16 pictures a class and tested on others of the same classes, as table 1's are."""
    chosen, known = f"rows[method={method}]/", f"few-shot-glom-tiny-cifar10.json#rows[method={method}]/difference"
    shows, against = gain_checks(gain, "gain_low", "gain_high")
    values = {"measured": "measured", "gain": "difference", "gain_low": "difference_ci95/0"}
    values = {name: chosen + path for name, path in {**values, "gain_high": "difference_ci95/1"}.items()}
    return Evidence(
        "few-shot-glom-tiny.json",
        {**values, "known": known},
        (shows,),
        "other data: Fashion-MNIST, which the teacher does not know: {measured:.1f}, over it {gain:+.1f} "
        "[{gain_low:+.1f}, {gain_high:+.1f}]; on CIFAR-10, which it was trained on, {known:+.1f}",
        against=against,
        undecided=undecided(gain),
    )


def _headlines(number: int) -> list[Claim]:
    """What the captions and the text say of a table: comparisons between its rows."""
    pairs = {
        1: (("The machine, without trained prompts, is above TPT.", "APM (CLIP-ViT-B/16)", "TPT"),),
        2: (
            ("The machine, without training on the task, is above TTT-MAE, which has it.", "APM", "TTT-MAE"),
            ("Test-time training of a masked autoencoder is above its probe.", "TTT-MAE", "ViT Probe"),
        ),
        3: (
            ("The machine is above TPT.", "APM", "TPT"),
            ("The machine is above prompts learned on ImageNet (CoCoOp).", "APM", "CoCoOp"),
        ),
    }[number]
    printed = {str(r["method"]): float(r["recomputed"]) for r in printed_arithmetic(number)["rows"]}
    claims = []
    for text, first, second in pairs:
        gain = printed[first] - printed[second]
        evidence = tuple(_comparison(number, scale, first, second, gain) for scale in ("poster", "home"))
        claims.append(Claim(f"Table {number}", text, evidence, NOT_RUN))
    return claims


def _comparison(number: int, scale: str, first: str, second: str, gain: float) -> Evidence:
    """Two rows on the same pictures, by the interval of their paired difference; `gain` is the printed one."""
    a, b = (f"rows[published_method={m}][kind=average]/" for m in (first, second))
    paired = f"{a}versus[published_method={second}]/"
    values = {
        "first": f"{a}measured",
        "second": f"{b}measured",
        "difference": f"{paired}difference",
        "low": f"{paired}ci95/0",
        "high": f"{paired}ci95/1",
    }
    poster = scale == "poster"
    if poster:
        values |= {"limit": "limit", "same": f"{a}difference", "same_second": f"{b}difference"}
    shows, against = gain_checks(gain, "low", "high", WITHIN if poster else 0.0)
    return Evidence(
        reproduced(f"table{number}", scale),
        values,
        (shows,),
        f"{'' if poster else 'other data: '}{first} {{first:.1f}}, {second} {{second:.1f}}; on the same pictures "
        "{difference:+.1f} [{low:+.1f}, {high:+.1f}]",
        poster,
        f"apm reproduce table{number}{' --scale poster' if poster else ''} --out DIR",
        against,
        undecided(gain),
        WHOLE if poster else (),
        LIMITED,
        f"has no paired difference of {first} and {second}" + (" on all of the published data" if poster else ""),
    )


def _computation() -> list[Claim]:
    """Table 4: its parameters and GFLOPs are counts of the published architectures; its memory is that of a GPU."""
    file, command = "compute.json", "apm bench compute --out DIR"
    sizes: dict[str, str] = {}
    checks: list[Check] = []
    memory: dict[str, str] = {}
    for i, row in enumerate(published_table(4)):
        place = f"rows[model={row['model']}][t={row['t']}]/"
        for name, column, path in (("params", "params_m", "params_m"), ("g", "gflops_ideal", "gmadds")):
            sizes[f"{name}{i}"] = place + path
            checks += printed(f"{name}{i}", float(row[column]))  # type: ignore[arg-type]
        memory[f"gb{i}"] = f"{place}memory_gb"
    sizes["tpt"] = "rows[model=TPT]/nearest/gflops_ideal/reading"
    return [
        Claim(
            "Table 4",
            "Its parameters and GFLOPs (ideal) are what its architectures count.",
            (
                Evidence(
                    file,
                    sizes,
                    tuple(checks),
                    "million parameters {params0:.1f}, {params1:.1f}, {params2:.1f}, {params4:.1f} (Swin-B, TPT, CLIP, "
                    "machine), printed 87, 151.3, 149.2, 174.2; G multiply-adds {g0:.1f}, {g2:.1f}, {g3:.1f}, {g5:.1f}"
                    ", {g6:.1f} (Swin-B, CLIP's 20 steps and one, the machine's step and 20), printed 308, 410, "
                    "20.5, 10, 210.5; TPT's 476 is {tpt}, where 64 views and 1,000 prompts take {g1:,.0f}",
                    True,
                    command,
                    rule=f"each of {len(checks) // 2} numbers within {100 * COUNT:g} %",
                ),
            ),
        ),
        Claim(
            "Table 4",
            "Its memory.",
            (
                Evidence(
                    file,
                    memory,
                    (),
                    "peak on a processor, fp32: {gb0:.2f}, {gb1:.2f}, {gb2:.2f}, {gb3:.2f}, {gb4:.2f} GB (Swin-B, TPT, "
                    "CLIP, CLIP frozen, machine), printed 1.5, 3.1, 2.3, 1.8, 2.7",
                    command=command,
                ),
            ),
            "other hardware, so it decides nothing",
        ),
    ]
