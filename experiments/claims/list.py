"""The poster's claims in its order: panels, each claim with what decides it, then the tables' rows; then Hinton's, and
what this project asks beside them.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.claims.percepts import fields, islands, machine
from experiments.claims.rules import KEPT, SAME, ahead, flat, printed
from experiments.claims.run import HINTON, OURS, Check, Claim, Evidence
from experiments.claims.tables import averages, table_claims

TTT, COMPUTE, FORWARD = "Test-time training", "Computation", "GLOM and forward-forward"
PRINTED_SHARE = 210.5 / 410  # table 4: twenty steps of the machine over twenty of CLIP
WIDEST_GAP = 9.0  # points, Hinton 2022: 46 beside 37 %


def adaptation() -> list[Claim]:
    """What the panel on test-time training says, beside its tables."""
    file = "ttt-imagenet-sample.json"
    names = ("clean", "gaussian_noise:3", "contrast:3", "glass_blur:3")
    gains = {n.partition(":")[0]: f"rows[name={n}]/difference" for n in names}
    lows = {f"{n.partition(':')[0]}_low": f"rows[name={n}]/ci95/0" for n in names}
    oracle = {
        "oracle": "rows[name=gaussian_noise:3]/oracle_top1",
        "teacher": "rows[name=gaussian_noise:3]/teacher_top1",
    }
    return [
        Claim(
            TTT,
            "Distilling the teacher's token once and overfitting it converges to the teacher's representation.",
            (
                Evidence(
                    file,
                    {n.partition(":")[0]: f"rows[name={n}]/agreement" for n in names},
                    tuple(Check(n.partition(":")[0], ">=", SAME) for n in names),
                    "{pictures} ImageNet pictures, same class as the teacher: {clean:.3f} clean, {gaussian_noise:.3f} "
                    "under noise, {contrast:.3f} low contrast, {glass_blur:.3f} glass blur",
                    n=f"rows[name={names[0]}]/n",
                ),
            ),
        ),
        Claim(
            TTT,
            "So overfit, the machine is more often right than its teacher.",
            (
                Evidence(
                    file,
                    {**gains, **lows, **oracle},
                    ahead(*list(lows)[1:]),
                    "paired difference from the teacher {clean:+.1f} clean, {gaussian_noise:+.1f} under noise, "
                    "{contrast:+.1f} low contrast, {glass_blur:+.1f} glass blur; counting a picture as right if any "
                    "iteration was (which no one can know) would give {oracle:.1f} for {teacher:.1f}",
                    n=f"rows[name={names[0]}]/n",
                ),
            ),
        ),
    ]


def objectives() -> list[Claim]:
    """Whether anything else than token distillation makes the machine better than its teacher."""
    confirmed = "confirmation/rows[kind={0}][{1}=True]/*"
    return [
        Claim(
            TTT,
            f"With another objective, chosen on other pictures, it beats its teacher and its control ({name}).",
            (
                Evidence(
                    f"objective-{teacher}.json",
                    {
                        "tried": "selection/tried",
                        "plain": confirmed.format("plain", "holds"),
                        "apm": confirmed.format("apm", "holds"),
                        "adds": confirmed.format("apm", "apm_adds"),
                    },
                    (Check("adds", ">=", 1),),
                    "{tried} candidates tried; confirmed above the teacher: {plain} without a machine, {apm} with one; "
                    "{adds} of these above the same views without it",
                    n="confirmation/pictures",
                ),
            ),
            source=OURS,
        )
        for teacher, name in (("glom-tiny", "CIFAR-10"), ("efficientnet-lite0", "ImageNet sample"))
    ]


def trained_machine() -> list[Claim]:
    """Whether a machine trained beforehand is above its teacher at every strength of corruption."""
    row = "rows[method=apm-trained][kind=average][dataset=CIFAR-10, 15 corruptions, severity {0}]/"
    levels = range(1, 6)
    gains = {f"at{i}": f"{row.format(i)}gain/measured" for i in levels}
    lows = {f"at{i}_low": f"{row.format(i)}gain/ci95/0" for i in levels}
    shown = ", ".join(f"{{at{i}:+.1f}} (from {{at{i}_low:+.1f}})" for i in levels)
    return [
        Claim(
            TTT,
            "An APM trained on a teacher's grids, adapted by five steps, is above that teacher on corrupted pictures.",
            (
                Evidence(
                    "reproduce-table2-severities.json",
                    {**gains, **lows},
                    ahead(*lows),
                    f"untouched CIFAR-10 pictures, fifteen corruptions, over the teacher at severity 1 to 5: {shown}; "
                    "the machine reads 21 x 21 of 32 x 32 pixels at every location",
                    command="apm reproduce table2 --methods zero-shot,apm-trained --severities 1,2,3,4,5 --out DIR",
                    lacking="has no average at every severity, or too few pictures for intervals",
                ),
            ),
            source=OURS,
        )
    ]


def computation() -> list[Claim]:
    """What the figure of computation says; random weights are the published setting, as cost depends on sizes alone."""
    flops = "figure/gflops/"
    counted = "apm bench compute --out DIR"
    return [
        Claim(
            COMPUTE,
            "The machine's GFLOPs stay flat as patches grow from 7 x 7 to 224 x 224.",
            (
                Evidence(
                    "compute.json",
                    {"at_224": flops + "apm_plain/5", "at_7": flops + "apm_plain/0"},
                    (flat("at_224", "at_7"),),
                    "one forward pass at the published widths: {at_7:.1f} GFLOPs at 7 x 7, {at_224:,.0f} at 224 x 224",
                    True,
                    counted,
                ),
            ),
        ),
        Claim(
            COMPUTE,
            "At every number of patches the machine's pass costs less than CLIP ViT-B/16's.",
            (
                Evidence(
                    "compute.json",
                    {f"apm_{i}": f"{flops}apm_plain/{i}" for i in range(6)}
                    | {f"clip_{i}": f"{flops}clip/{i}" for i in range(6)},
                    tuple(Check(f"apm_{i}", "<", f"clip_{i}") for i in range(6)),
                    "GFLOPs at 7 x 7: {apm_0:.1f} for {clip_0:.1f}; at 56 x 56: {apm_3:.0f} for {clip_3:.0f}; at "
                    "224 x 224: {apm_5:,.0f} for {clip_5:,.0f}",
                    True,
                    counted,
                ),
            ),
        ),
        Claim(
            COMPUTE,
            "Twenty steps of the machine cost about half of twenty of CLIP's.",
            (
                Evidence(
                    "compute.json",
                    {
                        "apm": "rows[model=APM peak use]/gmadds",
                        "clip": "rows[model=CLIP ViT-B/16]/gmadds",
                        "fired": "rows[model=APM peak use]/test_time/gmadds_plain",
                        "folded": "rows[model=APM peak use]/test_time/gmadds_folded",
                    },
                    printed("apm", "clip", PRINTED_SHARE),
                    "G multiply-adds as the release counts them, 512 columns: {apm:.0f} for {clip:.0f} "
                    "(printed 210.5 for 410); its test-time code fires 1,024 columns, which takes "
                    "{fired:.0f}, or {folded:.0f} in folded execution, which it does not have",
                    True,
                    counted,
                ),
            ),
        ),
    ]


def networks() -> list[Claim]:
    """What Hinton says of forward-forward (2022) and of GLOM's levels (2021)."""
    return [*_forward_forward(), *_levels()]


def _forward_forward() -> list[Claim]:
    return [
        Claim(
            FORWARD,
            "Forward-forward learns MNIST without backpropagation (Hinton 2022, section 3.3: 4 x 2000, 1.36 % error).",
            (
                Evidence(
                    "ff-supervised-paper.json",
                    {"error": "result/test_error", "twin": "result/baseline_test_error", "epochs": "result/epochs"},
                    (Check("error", "<=", 1.6),),
                    "supervised 4 x 2000, {epochs} epochs: test error {error:.2f} %, the backpropagation twin "
                    "{twin:.2f} %; 1.6 is the upper 95 % bound of 1.36 % on 10,000 pictures",
                    True,
                ),
                Evidence(
                    "ff-supervised-3x1000.json",
                    {"error": "result/test_error", "twin": "result/baseline_test_error"},
                    (Check("error", "<=", 1.7),),
                    "supervised 3 x 1000: test error {error:.2f} %, the backpropagation twin {twin:.2f} %; 1.7 is the "
                    "upper 95 % bound of 1.44 % on 10,000 pictures",
                ),
            ),
        ),
        Claim(
            FORWARD,
            "A recurrent forward-forward network that watches a picture as a motionless video learns to classify it.",
            (
                Evidence(
                    "ff-recurrent-2x500.json",
                    {"error": "result/test_error"},
                    (Check("error", "<=", 100 * (1 - KEPT)),),
                    "2 x 500, 30 epochs, MNIST: test error {error:.2f} % (published for 2,000 units: 1.31 %)",
                    n="result/test_pictures",
                ),
            ),
        ),
        Claim(
            FORWARD,
            "With local receptive fields on CIFAR-10, forward-forward comes near backpropagation (2 to 9 points).",
            (
                Evidence(
                    "ff-local-min-25-epochs.json",
                    {
                        "error": "result/test_error",
                        "twin": "result/baseline_test_error",
                        "epochs": "result/epochs",
                        "high": "ff-local-max-25-epochs.json#result/test_error",
                    },
                    tuple(Check(name, "<=", "twin", plus=WIDEST_GAP) for name in ("error", "high")),
                    "2 x 3072, {epochs} epochs: error {error:.1f} % (low goodness wanted) and {high:.1f} % (high), "
                    "twin {twin:.1f} % (published 41 to 46 beside 37 to 39)",
                ),
            ),
        ),
    ]


def _levels() -> list[Claim]:
    return [
        Claim(
            FORWARD,
            "In GLOM's hierarchy, higher levels have fewer, larger islands.",
            (
                Evidence(
                    "glom-mask-4000-steps.json",
                    {f"fall{i}": f"differences/fall/{i - 1}/islands/1" for i in (1, 2, 3)}
                    | {f"level{i}": f"levels[level={i}]/islands" for i in (1, 2, 3, 4)},
                    ahead("fall1", "fall2", "fall3"),
                    "GLOM trained on masked regions, 4,000 steps: {level1:.1f}, {level2:.1f}, {level3:.1f}, "
                    "{level4:.1f} islands from level 1 to 4, every fall's 95 % interval above 0 "
                    "(it depends on the threshold: docs/glom.md)",
                    n="n",
                ),
            ),
        ),
        Claim(
            FORWARD,
            "Those islands are the parts and wholes of the picture.",
            (
                Evidence(
                    "glom-mask.json",
                    {"wholes": "levels[level=1]/ari_wholes"}
                    | {
                        f"{what}_over_{base}": f"differences/{base}/0/ari_{what}/1"
                        for what in ("wholes", "parts")
                        for base in ("pixels", "untrained")
                    },
                    ahead(*(f"{w}_over_{b}" for w in ("wholes", "parts") for b in ("pixels", "untrained"))),
                    "level 1: ARI {wholes:.3f} with wholes; 95 % from {wholes_over_pixels:+.3f} (wholes) and "
                    "{parts_over_pixels:+.3f} (parts) over colour + position, from {wholes_over_untrained:+.3f} and "
                    "{parts_over_untrained:+.3f} over the untrained network",
                    n="n",
                ),
            ),
        ),
    ]


def all_claims() -> list[Claim]:
    """Every claim: the poster's in its order, panels, then tables; Hinton's; what this project asks."""
    return [
        *islands(),
        *machine(),
        *fields(),
        *adaptation(),
        *computation(),
        *table_claims(),
        *(replace(claim, source=HINTON) for claim in networks()),
        *objectives(),
        *trained_machine(),
        *averages(),
    ]
