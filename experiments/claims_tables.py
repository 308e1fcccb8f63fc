"""Every row of the poster's four tables as a claim, made from the printed tables themselves.

Tables 1 to 3: a row's average at poster scale, where such a run is among the results. At home scale the data are
others, so that a number decides nothing; whether a method gains over the table's teacher, as printed, does.
"""

from __future__ import annotations

from experiments.bench.compute_readings import gigabytes
from experiments.claims import PRINTED, Check, Claim, Evidence, printed_arithmetic, reproduced
from experiments.published import published_table

WITHIN = 0.5  # points beyond the interval that a printed accuracy may lie: rounding, templates, preprocessing
COUNT, MEMORY = 0.025, 0.25  # shares that a count and a peak of memory may be off
OWN = ("Joint Train", "Fine-Tune", "ViT Probe", "TTT-MAE")  # trained on the task: no gain over the teacher is claimed
BASES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"CLIP-ViT-B/16": ("Ensemble", "TPT", "APM (CLIP-ViT-B/16)", "CoOp", "CoCoOp", "TPT + CoOp", "TPT + CoCoOp"),
        "CLIP-ViT-L/14": ("APM (CLIP-ViT-L/14)",), "OpenCLIP-ViT-H/14": ("APM (OpenCLIP-ViT-H/14)",)},
    2: {"OpenCLIP ViT-L/14": ("APM",)},
    3: {"CLIP-ViT-B/16": ("CoOp", "CoCoOp", "Ensemble", "TPT", "APM")},
}  # fmt: skip
NOT_RUN = "the published data sets and weights could not be had where the results were made"


def table_claims() -> list[Claim]:
    """Arithmetic, headlines and rows of tables 1 to 3, then table 4 row by row."""
    found: list[Claim] = []
    for number in (1, 2, 3):
        found += [_averages(number), *_headlines(number), *_rows(number)]
    return [*found, *_computation()]


def _averages(number: int) -> Claim:
    """Whether the printed averages are the printed rows' own."""
    return Claim(
        f"Table {number}",
        "Its printed averages are the means of its own rows (to 0.1 of rounding).",
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
    )


def _base(number: int, method: str) -> str:
    return next((base for base, rows in BASES[number].items() if method in rows), "")


def _rows(number: int) -> list[Claim]:
    claims = []
    printed = {str(r["method"]): r for r in printed_arithmetic(number)["rows"]}
    for method, row in printed.items():
        base = _base(number, method)
        average = float(row["recomputed"])
        chosen = f"rows[published_method={method}][kind=average]/"
        values = {
            "measured": f"{chosen}measured",
            "low": f"{chosen}ci95/0",
            "high": f"{chosen}ci95/1",
            "n": f"{chosen}n",
        }
        poster = Evidence(
            reproduced(f"table{number}", "poster"),
            values,
            (Check("low", "<=", average + WITHIN), Check("high", ">=", average - WITHIN)),
            "measured {measured:.1f} [{low:.1f}, {high:.1f}] over {n:,} answers",
            True,
            f"apm reproduce table{number} --scale poster --out DIR",
        )
        text = f"{method}: average {average:.1f}" + (
            "" if abs(row["off"]) <= 0.1001 else f" (printed {row['printed']:g})"
        )
        home = reproduced(f"table{number}", "home")
        command = f"apm reproduce table{number} --out DIR --record benchmarks/results/{home}"
        if base:
            gain = average - float(printed[base]["recomputed"])
            text += f", {gain:+.1f} over {base}"
            side = Check("gain_low", ">", 0) if gain > 0 else Check("gain_high", "<", 0)
            more = {
                f"gain_{k}": f"{chosen}gain/{path}"
                for k, path in (("", "measured"), ("low", "ci95/0"), ("high", "ci95/1"))
            }
            more = {k.rstrip("_"): v for k, v in more.items()}
            second = Evidence(
                home, {**values, **more}, (side,),
                "other data: {measured:.1f} [{low:.1f}, {high:.1f}], over its teacher {gain:+.2f} [{gain_low:+.2f}, "
                "{gain_high:+.2f}]", command=command,
            )  # fmt: skip
        else:
            says = "other data and networks: {measured:.1f} [{low:.1f}, {high:.1f}]"
            second = Evidence(home, values, (), says, command=command)
        claims.append(Claim(f"Table {number}", text + ".", (poster, second), NOT_RUN))
    return claims


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
    claims = []
    for text, first, second in pairs:
        a, b = (f"rows[published_method={m}][kind=average]/" for m in (first, second))
        paired = f"{a}versus[published_method={second}]/"
        values = {
            "first": f"{a}measured",
            "second": f"{b}measured",
            "difference": f"{paired}difference",
            "low": f"{paired}ci95/0",
            "high": f"{paired}ci95/1",
        }
        evidence = tuple(
            Evidence(
                reproduced(f"table{number}", scale),
                values,
                (Check("low", ">", 0),),
                f"{'' if scale == 'poster' else 'other data: '}{first} {{first:.1f}}, {second} {{second:.1f}}; on the "
                "same pictures {difference:+.1f} [{low:+.1f}, {high:+.1f}]",
                scale == "poster",
                f"apm reproduce table{number}{' --scale poster' if scale == 'poster' else ''} --out DIR",
            )
            for scale in ("poster", "home")
        )
        claims.append(Claim(f"Table {number}", text, evidence, NOT_RUN))
    return claims


def _computation() -> list[Claim]:
    """Table 4: parameters and GFLOPs are counts of the published architectures; memory is a processor's."""
    claims = []
    for row in published_table(4):
        place = f"rows[model={row['model']}][t={row['t']}]/"
        name = f"{row['model']}, t = {row['t']}"
        near = {"reading": f"{place}nearest/gflops_ideal/reading", "off": f"{place}nearest/gflops_ideal/off_percent"}
        for what, printed, path, share, published in (
            ("million parameters", float(row["params_m"]), "params_m", COUNT, True),  # type: ignore[arg-type]
            ("GFLOPs (ideal)", float(row["gflops_ideal"]), "gmadds", COUNT, True),  # type: ignore[arg-type]
            ("GB of memory (measured)", gigabytes(row["memory_measured_gb"]), "memory_gb", MEMORY, False),
        ):
            flops = path == "gmadds"
            says = "{measured:,.1f} G multiply-adds; the nearest reading of the number is {reading} ({off:+.1f} %)"
            other = "{measured:,.2f} on a processor, fp32" if path == "memory_gb" else "{measured:,.1f}"
            claims.append(
                Claim(
                    "Table 4",
                    f"{name}: {printed:g} {what}.",
                    (
                        Evidence(
                            "compute.json",
                            {"measured": place + path, **(near if flops else {})},
                            (Check("measured", ">=", printed, 1 - share), Check("measured", "<=", printed, 1 + share)),
                            says if flops else other,
                            published,
                            "apm bench compute --out DIR",
                        ),
                    ),
                )
            )
    return claims
