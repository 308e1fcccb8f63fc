"""Every width and choice of an APM, and its presets; `glom.apm` is the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from glom.errors import InputError, unknown
from glom.settings import Settings, setting

LOCATION_CODES = ("sinusoidal", "fourier", "none")  # see `glom.columns.LocationCode`
READOUTS = ("mean", "attention", "location")
OF_PRESET = "the preset's"


@dataclass(frozen=True, kw_only=True)
class APMConfig(Settings):
    """Every width and choice of an APM.

    The column is D = channels * (image_size / patch)^2 wide. `cells` is the grid that the location code is laid out
    for, and the default grid. Read-outs: "mean" of f; "attention", one learned query over f + p_F, whose `heads` must
    divide F; "location", f at `location` alone. `rgb_relu`: whether the colour head ends in a ReLU, as the released one
    does, whose colours are in [0, 1]; off for colours in units of a normalised picture, half of which are negative.
    """

    features: int = setting(768, "F, the teacher's width.", least=1)
    image_size: int = setting(448, "Side of the picture that is folded.")
    patch: int = setting(14, "Side of the fold's patches in pixels.", shown=OF_PRESET)
    channels: int = setting(1, "Numbers the fold keeps a patch.", shown=OF_PRESET)
    cells: int = setting(32, "Cells a side of the default grid.")
    trunk: tuple[int, ...] = setting(
        (4096, 2048, 1024), "Widths of the shared MLP, e.g. 896,512.", least=1, shown=OF_PRESET
    )
    activation: str = setting("relu", choices=("relu", "gelu", "silu", "tanh", "sine"))
    location_code: str = setting("sinusoidal", choices=LOCATION_CODES)
    local_patch: int = setting(0, "Side of I(x, y); 0: none.", shown=OF_PRESET)
    readout: str = setting("attention", "mean, attention or location.")
    heads: int = setting(8, "Heads of the attention read-out.")
    location: tuple[float, float] = setting((0.5, 0.5), "(x, y) of the location read-out.")
    rgb: tuple[int, ...] | None = setting((256, 256), "Hidden widths of the colour head; none for no colour head.")
    rgb_relu: bool = setting(False, "Whether the colour head ends in a ReLU.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.readout not in READOUTS:
            raise unknown("read-out", self.readout, READOUTS)
        if not self.trunk:
            raise InputError("an APM needs a `trunk` of at least one layer")
        if self.readout == "attention" and (self.features % self.heads or self.features % 4):
            raise InputError(
                f"attention over {self.features} features with {self.heads} heads: the width must be a multiple "
                "of both the heads and 4"
            )


PRESETS: dict[str, APMConfig] = {
    # The poster's test-time model: three trunk layers, one learned query with eight heads.
    "apm-ttt": APMConfig(),
    # The model pre-trained on grids: five trunk layers, mean read-out, features as wide as DINOv2 ViT-L's.
    "apm-full": APMConfig(features=1024, trunk=(4096, 4096, 4096, 2048, 1024), readout="mean"),
    # The same shape for small teachers and two cores.
    "apm-small": APMConfig(image_size=224, patch=14, cells=16, trunk=(1024, 512, 512), readout="mean", rgb=(128, 128)),
    "apm-tiny": APMConfig(features=128, image_size=32, patch=2, cells=8, trunk=(512, 256), heads=4, rgb=(128, 128)),
}
"""The configurations that have a name; `preset` gives one, with changes."""


def preset(name: str, **changes: object) -> APMConfig:
    """The configuration called `name`, with `changes` to its fields: `preset("apm-ttt", features=512)`.

    Raises:
        InputError: no such preset, or settings that do not go together.
    """
    if name not in PRESETS:
        raise unknown("APM preset", name, PRESETS)
    return replace(PRESETS[name], **changes)  # type: ignore[arg-type]
