"""What is said of every method, apart from the methods: listing them costs no import of torch."""

from __future__ import annotations

from dataclasses import dataclass

FIXED, PER_SET = "published and fixed", "published per data set"
TEST_LABELS, HERE = "searched on test labels by its authors", "chosen here on other pictures"
CONSTANTS = {"f": FIXED, "d": PER_SET, "t": TEST_LABELS, "h": HERE}
"""Where a method's constants come from, by the letter that stands for it in a table (docs/methods.md)."""


@dataclass(frozen=True)
class Entry:
    """What `apm methods list` says of a method.

    Attributes:
        what: in a few words. source: where its settings are from, the publication first.
        needs_text: only for teachers with a text encoder. needs_shots: only with labelled pictures. needs_second: only
            with a second teacher.
        stateful: whether other test pictures change an answer, so that it is one of a stream.
        constants: where its constants come from, one of `CONSTANTS`; a method whose preset or teacher decides says so
            itself once it has its task (`Method.constants`).
    """

    what: str
    source: str
    needs_text: bool = False
    needs_shots: bool = False
    needs_second: bool = False
    stateful: bool = False
    constants: str = FIXED

    def __post_init__(self) -> None:
        if self.constants not in CONSTANTS.values():
            raise ValueError(f"constants come from none of {', '.join(CONSTANTS.values())}: {self.constants}")


LISTED: dict[str, Entry] = {
    "apm": Entry(
        "an APM overfit on the test picture, token-mse",
        "Modi & Rawat 2024, section 3; preset `fast` or `published` (docs/ttt.md)",
    ),
    "apm-cosine": Entry(
        "an APM overfit on the test picture, token-cosine",
        "Modi & Rawat 2024, section 3; preset `fast` or `published` (docs/ttt.md)",
    ),
    "apm-grid": Entry(
        "an APM overfit on the test picture, token+grid",
        "Modi & Rawat 2024, section 3; preset `fast` or `published` (docs/ttt.md)",
    ),
    "apm-grid-rgb": Entry(
        "an APM overfit on the test picture, token+grid+rgb",
        "Modi & Rawat 2024, section 3; preset `fast` or `published` (docs/ttt.md)",
    ),
    "apm-rgb": Entry(
        "an APM overfit on the test picture, token+rgb",
        "Modi & Rawat 2024, section 3; preset `fast` or `published` (docs/ttt.md)",
    ),
    "tda": Entry(
        "caches of the surest test pictures so far (depends on their order)",
        "Karmanov et al. 2024 (CVPR), section 3 and the released settings for ImageNet",
        needs_text=True,
        stateful=True,
        constants=PER_SET,
    ),
    "boostadapter": Entry(
        "tda, and the picture's own surest views in its cache",
        "Zhang et al. 2024 (NeurIPS), section 3 and the released settings for ImageNet-A: 64 views, a tenth, delta 3",
        needs_text=True,
        stateful=True,
        constants=PER_SET,
    ),
    "dmn": Entry(
        "a memory of 50 test pictures a class, read by likeness; no training",
        "Zhang et al. 2024 (CVPR), section 3.3: 32 views, a tenth, beta 5.5; the memory's weight: 1 here for all, "
        "searched on each data set's test labels by its authors (YBZh/DMN#2)",
        needs_text=True,
        stateful=True,
        constants=TEST_LABELS,
    ),
    "lame": Entry(
        "a batch's answers drawn together where features are close",
        "Boudiaf et al. 2022 (CVPR), section 4 and its release's overall best: Gaussian kernel, 5 neighbours",
        stateful=True,
    ),
    "bn-alpha": Entry(
        "batch norm by a tenth of the picture's own statistics",
        "Schneider et al. 2020 (NeurIPS), section 3; You et al. 2021; the share, 0.1, of mariodoebler/"
        "test-time-adaptation's setting for single pictures",
    ),
    "bn-batch": Entry(
        "batch norm by n / (n + 16) of a batch's statistics, n pictures",
        "Schneider et al. 2020 (NeurIPS), section 3; N, 16, as in MEMO's release for ImageNet",
        stateful=True,
        constants=PER_SET,
    ),
    "tent": Entry(
        "batch norms' weights, one step on a batch's entropy",
        "Wang et al. 2021 (ICLR), section 4.1: ImageNet's SGD 0.00025, momentum 0.9; smaller below 32 pictures, as in "
        "SAR's release",
        stateful=True,
        constants=PER_SET,
    ),
    "eta": Entry(
        "tent on sure pictures unlike earlier ones",
        "Niu et al. 2022 (ICML), section 3 and its release: SGD as tent, 0.4 ln C; by the number of classes 0.05 "
        "(ImageNet), 0.1, 0.4 (CIFAR)",
        stateful=True,
        constants=PER_SET,
    ),
    "eata": Entry(
        "eta, held to the source by Fisher information",
        "Niu et al. 2022 (ICML), section 3 and its release: as eta, 2000 (ImageNet) or 1 (CIFAR)",
        needs_shots=True,
        stateful=True,
        constants=PER_SET,
    ),
    "sar": Entry(
        "tent on sure pictures, sharpness-aware",
        "Niu et al. 2023 (ICLR), section 4 and its release: SGD as tent, 0.4 ln C, radius 0.05, reset at 0.2",
        stateful=True,
    ),
    "roid": Entry(
        "batch norms' weights by diverse pictures, ensembled with the source",
        "Marsden et al. 2024 (WACV), section 3 and its release: SGD 0.00025, Nesterov 0.9, temperature 1/3, 0.99",
        stateful=True,
        constants=PER_SET,
    ),
    "fine-tune": Entry(
        "a masked autoencoder's encoder and head trained end to end; no adaptation",
        "Gandelsman et al. 2022 (NeurIPS), section 3",
    ),
    "joint-train": Entry(
        "as fine-tune, with the reconstruction loss beside; no adaptation",
        "Gandelsman et al. 2022 (NeurIPS), section 3",
    ),
    "vit-probe": Entry(
        "a transformer head on a masked autoencoder's frozen encoder",
        "Gandelsman et al. 2022 (NeurIPS), section 3; fitting as in the released main_prob.py",
    ),
    "ttt-mae": Entry(
        "ViT Probe, the encoder trained on the test picture's reconstruction first",
        "Gandelsman et al. 2022 (NeurIPS), section 3; the network's own settings, else 20 steps, batch 128, SGD 0.005, "
        "momentum 0.9, decay 0.2",
    ),
    "coop": Entry(
        "context vectors learned from labelled pictures",
        "Zhou et al. 2022 (IJCV), section 4.1: SGD 0.002, 50 to 200 epochs, 'a photo of a'; glom-tiny: its own",
        needs_text=True,
        needs_shots=True,
    ),
    "cocoop": Entry(
        "CoOp with a context that depends on the picture",
        "Zhou et al. 2022 (CVPR), section 4: SGD 0.002, batch 1, 10 epochs, 'a photo of a'; glom-tiny: its own",
        needs_text=True,
        needs_shots=True,
    ),
    "apm-trained": Entry(
        "an APM trained on the teacher's grids, a few steps of token and grid",
        "this project, docs/objective.md: five steps of Adam at 0.0001, chosen among 2, 5 and 20",
        constants=HERE,
    ),
    "tpt": Entry(
        "a prompt tuned on 64 views of the test picture",
        "Shu et al. 2022 (NeurIPS), section 4.1: 64 views, a tenth, one step of AdamW at 0.005",
        needs_text=True,
    ),
    "tpt+coop": Entry("TPT from CoOp's context", "Shu et al. 2022, table 1", needs_text=True, needs_shots=True),
    "tpt+cocoop": Entry(
        "TPT from CoCoOp's context for the picture", "Shu et al. 2022, table 1", needs_text=True, needs_shots=True
    ),
    "memo": Entry(
        "marginal entropy over AugMix views, adapting the image tower",
        "Zhang, Levine & Finn 2022 (NeurIPS): its release's setting for CIFAR-10, or for ImageNet, by picture size",
        constants=PER_SET,
    ),
    "zero": Entry(
        "a vote of the surest 30 % of 64 views",
        "Farina et al. 2024 (NeurIPS), algorithm 1 and its release: 64 views, the surest 0.3",
    ),
    "zero+ensemble": Entry(
        "ZERO with 80 templates averaged",
        "Farina et al. 2024 (NeurIPS), table 1, `+Ensemble`; 80 templates for its release's 7",
        needs_text=True,
    ),
    "zero2": Entry(
        "the second teacher's vote on the first one's surest views",
        "Farina et al. 2024 (NeurIPS), with a reward model as in its release: 64 views, the surest 0.3",
        needs_second=True,
    ),
    "mta": Entry(
        "the mode of 64 views' tokens, outliers weighing less",
        "Zanella & Ben Ayed 2024 (CVPR), section 3 and its release: lambda 4, lambda_y 0.2",
    ),
    "tps": Entry(
        "class prototypes shifted on 64 views",
        "Sui et al. 2025 (WACV), section 3 and its release: one step of AdamW at 0.005, the surest tenth",
    ),
    "c-tpt": Entry(
        "TPT that keeps the classes' text features apart",
        "Yoon et al. 2024 (ICLR), section 4 and its release: lambda 50, on ImageNet and its shifts 20",
        needs_text=True,
        constants=PER_SET,
    ),
    "rlcf": Entry(
        "the image tower rewarded by a second teacher",
        "Zhao et al. 2024 (ICLR), section 3 and its release: three steps of AdamW at 0.00001, three classes a view",
        needs_second=True,
        constants=PER_SET,
    ),
    "rlcf-prompt": Entry(
        "a prompt rewarded by a second teacher",
        "Zhao et al. 2024 (ICLR), section 3 and its release: three steps of AdamW at 0.007, three classes a view",
        needs_text=True,
        needs_second=True,
        constants=PER_SET,
    ),
    "views": Entry(
        "the mean probability of the surest tenth of 64 views", "the baseline of Shu et al. 2022, section 5"
    ),
    "zero-shot": Entry("the teacher with one template", "Radford et al. 2021, section 3.1.4"),
    "second-zero-shot": Entry(
        "the second teacher with one template", "Radford et al. 2021, section 3.1.4", needs_second=True
    ),
    "ensemble": Entry("80 templates averaged", "Radford et al. 2021, section 3.1.4", needs_text=True),
}
