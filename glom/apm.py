"""The Asynchronous Perception Machine: one shared MLP, asked at any location of a folded picture.

    T      = fold(I)                                   (D,)
    z_xy   = [T, p(x, y)]  or  [T, p(x, y), I(x, y)]   (2D,) or (2D + P,)
    h_xy   = MLP(z_xy)                                 2D -> trunk[0] -> ... -> trunk[-1], an activation after each
    f_xy   = W_F h_xy + b_F                            (F,)   the feature percept
    rgb_xy = MLP_rgb([f_xy, z_xy])                     (3,)   the colour percept
    token  = read-out of f over the locations          (F,)

(Modi & Rawat, NeurIPS 2024, section 3; widths from the released code's two models.)

This file is the reference: one plain forward, as the formula says it. `glom.execution` runs the same parameters faster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glom.apm_config import PRESETS as PRESETS
from glom.apm_config import READOUTS as READOUTS
from glom.apm_config import APMConfig as APMConfig
from glom.apm_config import preset as preset
from glom.columns import Fold, LocationCode, Patch, check_queries, grid_queries
from glom.errors import InputError, unknown
from glom.runs.seeds import fixed_seed

INITIALISATIONS = ("published", "default")


class Sine(nn.Module):
    """sin(w x), the periodic activation of Sitzmann et al. 2020 (w = 1: the sharper first layer is the code's work)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sine": Sine,
}


@dataclass(frozen=True)
class Percept:
    """What came back. `features` (B, N, F), `rgb` (B, N, 3), `token` (B, F); None where it was not asked for."""

    features: Tensor | None = None
    rgb: Tensor | None = None
    token: Tensor | None = None


OUTPUTS = ("features", "rgb", "token")


class AsynchronousPerceptionMachine(nn.Module):
    """Fold, shared trunk, feature head, colour head and read-out. See the module's formulas.

    Example:
        >>> apm = AsynchronousPerceptionMachine(preset("apm-tiny"))
        >>> percept = apm(torch.zeros(1, 3, 32, 32), grid_queries(5, 7))
        >>> tuple(percept.features.shape), tuple(percept.token.shape)
        ((1, 35, 128), (1, 128))
    """

    def __init__(self, config: APMConfig) -> None:
        super().__init__()
        self.config = config
        self.fold = Fold(config.image_size, config.patch, config.channels)
        column = self.fold.dim
        self.location_code = LocationCode(column, config.cells, config.location_code)
        self.local_patch = Patch(config.local_patch, config.cells) if config.local_patch else None
        read = 2 * column + (self.local_patch.dim if self.local_patch else 0)
        widths = (read, *config.trunk)
        self.trunk = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.activation = ACTIVATIONS[config.activation]()
        self.feature_head = nn.Linear(config.trunk[-1], config.features)
        self.rgb_head: nn.ModuleList | None = None
        if config.rgb is not None:
            widths = (config.features + read, *config.rgb, 3)
            self.rgb_head = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        if config.readout == "attention":
            self.query = nn.Parameter(torch.empty(config.features))
            nn.init.normal_(self.query)
            self.attention = nn.MultiheadAttention(config.features, config.heads, batch_first=True)
            self.feature_location_code = LocationCode(config.features, config.cells, "sinusoidal")

    # -- the formula, line by line ------------------------------------------------------------------------------

    def columns(self, T: Tensor, queries: Tensor, images: Tensor | None = None) -> Tensor:
        """z: `T` (B, D) and `queries` (N, 2) -> (B, N, 2D), or (B, N, 2D + P) with the local patch read from `images`.

        Raises:
            InputError: a machine with a local patch, and no pictures.
        """
        p = self.location_code(queries).to(T.dtype)
        # Not `len`, which would fix an exported machine to one number of them.
        parts = [T[:, None].expand(-1, p.shape[0], -1), p.expand(T.shape[0], -1, -1)]
        if self.local_patch is not None:
            if images is None:
                raise InputError("this APM has the local patch in its column: pass the pictures as well")
            parts.append(self.local_patch(images, queries).to(T.dtype))
        return torch.cat(parts, dim=-1)

    def unfold(self, T: Tensor, queries: Tensor, images: Tensor | None = None) -> Tensor:
        """f: `T` (B, D) and `queries` (N, 2) -> (B, N, F), each location by itself; `images` for local patches."""
        return self._features(self.columns(T, check_queries(queries), images))

    def _features(self, z: Tensor) -> Tensor:
        h = z
        for layer in self.trunk:
            h = self.activation(layer(h))
        return self.feature_head(h)

    def colours(self, features: Tensor, z: Tensor) -> Tensor:
        """rgb: `features` (B, N, F) and columns `z` (B, N, 2D) -> (B, N, 3), in the units of its target.

        Raises:
            InputError: a machine without a colour head.
        """
        if self.rgb_head is None:
            raise InputError("this APM was built without a colour head (rgb=None)")
        c = torch.cat([features, z], dim=-1)
        for layer in self.rgb_head[:-1]:
            c = self.activation(layer(c))
        c = self.rgb_head[-1](c)
        return c.relu() if self.config.rgb_relu else c

    def read(self, features: Tensor, queries: Tensor) -> Tensor:
        """The token ("mean" and "attention") of `features` (B, N, F) at `queries` (N, 2) -> (B, F)."""
        if self.config.readout == "mean":
            return features.mean(dim=1)
        keys = features + self.feature_location_code(queries).to(features.dtype)
        query = self.query.expand(features.shape[0], 1, -1)
        pooled, _ = self.attention(query, keys, keys, need_weights=False)
        return pooled[:, 0]

    def forward(
        self, images: Tensor, queries: Tensor | None = None, outputs: tuple[str, ...] = ("features", "token")
    ) -> Percept:
        """Fold, unfold and read out, plainly.

        Args:
            images: (B, 3, image_size, image_size), see `glom.columns.picture`.
            queries: (N, 2) in [0, 1]^2; the default grid if None.
            outputs: what to compute, of `OUTPUTS`.

        Raises:
            InputError: no queries, queries outside the picture, pictures of another size.
        """
        for name in outputs:
            if name not in OUTPUTS:
                raise unknown("output", name, OUTPUTS)
        return self.asked(images, self.default_queries(images) if queries is None else check_queries(queries), outputs)

    def asked(self, images: Tensor, queries: Tensor, outputs: tuple[str, ...]) -> Percept:
        """`forward` of `images` (B, 3, S, S) at `queries` (N, 2) that were checked, for `outputs`: nothing is read back
        from a device."""
        T = self.fold(images)
        features = rgb = token = None
        if "features" in outputs or "rgb" in outputs or self.config.readout != "location":
            z = self.columns(T, queries, images)
            features = self._features(z)
            if "rgb" in outputs:
                rgb = self.colours(features, z)
        if "token" in outputs:
            if self.config.readout == "location":
                token = self._features(self.columns(T, self.read_location(queries), images))[:, 0]
            else:
                assert features is not None
                token = self.read(features, queries)
        return Percept(features if "features" in outputs else None, rgb, token)

    # -- helpers --------------------------------------------------------------------------------------------------

    def default_queries(self, like: Tensor, device: torch.device | str | None = None) -> Tensor:
        """(N, 2): the cells x cells grid's centres, float32 or better; on `like`'s device if `device` is None."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return grid_queries(self.config.cells, self.config.cells, device=device or like.device, dtype=dtype)

    def read_location(self, like: Tensor) -> Tensor:
        """(1, 2): where the "location" read-out looks, on the device and in the dtype of `like`."""
        # Filled where it lies: a list would have to be sent to the device.
        return torch.cat([like.new_full((1, 1), value) for value in self.config.location], dim=1)

    @torch.no_grad()
    def reset(self, generator: torch.Generator, initialisation: str = "published") -> None:
        """Draw every parameter afresh from `generator`; `initialisation` is one of two.

        published: normal(0, 0.01) for weights and biases alike, as the released code does before every test image.
        default:   uniform(+-1/sqrt(fan_in)) for linear and convolutional layers (PyTorch's), Xavier uniform and zero
                   biases for the attention's projections, normal(0, 1) for the learned query.

        Raises:
            InputError: another initialisation.
        """
        if initialisation not in INITIALISATIONS:
            raise unknown("initialisation", initialisation, INITIALISATIONS)
        if initialisation == "published":
            for parameter in self.parameters():
                parameter.normal_(0.0, 0.01, generator=generator)
            return
        for name, parameter in self.named_parameters():
            if name == "query":
                parameter.normal_(0.0, 1.0, generator=generator)
            elif name.startswith("attention.") and name.endswith("bias"):
                parameter.zero_()
            elif name == "attention.in_proj_weight":
                bound = math.sqrt(6 / (parameter.shape[0] + parameter.shape[1]))
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                layer = self.get_submodule(name.rpartition(".")[0])
                bound = 1 / math.sqrt(layer.weight[0].numel())  # type: ignore[union-attr,operator,index]
                parameter.uniform_(-bound, bound, generator=generator)


APM = AsynchronousPerceptionMachine


def blank_apm(config: APMConfig) -> AsynchronousPerceptionMachine:
    """A machine whose weights are set next, by `reset` or from a file: torch's global generator is left alone."""
    with fixed_seed():
        return AsynchronousPerceptionMachine(config)


class _Undrawn(TorchFunctionMode):
    """Nothing is drawn within. The device "meta" would do, and load sympy and symbolic shapes."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def unset_apm(config: APMConfig) -> AsynchronousPerceptionMachine:
    """The same with nothing drawn: its weights are whatever the memory held. Drawing them takes as long as a pass."""
    with _Undrawn():
        return AsynchronousPerceptionMachine(config)
