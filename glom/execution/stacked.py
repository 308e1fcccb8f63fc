"""Many samples at once: S independent APMs whose weights are stacked, (S, out, in), run by batched products.

Sample s has its own picture, weights, optimiser state and random numbers; nothing is ever summed over s, so what one
sample does (a NaN, say) the others do not see. The algebra is that of `glom.execution.folded`. An elementwise
optimiser (fused Adam) on the stacked parameters is S optimisers on the single ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from einops import rearrange
from torch import Tensor, nn

from glom.apm import OUTPUTS, APMConfig, AsynchronousPerceptionMachine, Percept, unset_apm
from glom.errors import InputError, unknown
from glom.execution.algebra import activate, add_relu, compute_dtype, split_linear, stacked_linear, wide
from glom.execution.folded import check_outputs
from glom.execution.locations import Locations, locate
from glom.runs.parallel import processes


def _attribute(name: str) -> str:
    """A parameter's name where it is kept: modules allow no dots."""
    return name.replace(".", "__")


class StackedAPM(nn.Module):
    """S APMs of one configuration, side by side; each parameter has a leading dimension S.

    Args:
        config: shared by all samples.
        samples: S, at least 1.
        device, dtype: of the stacked parameters, which start at zero: `reset`, `load_sample` or `repeat` fills them.

    Raises:
        InputError: fewer than one sample.

    Example:
        >>> from glom.apm import preset
        >>> stack = StackedAPM(preset("apm-tiny"), samples=3)
        >>> stack.reset([torch.Generator().manual_seed(s) for s in range(3)])
        >>> tuple(stack(torch.zeros(3, 3, 32, 32)).token.shape)
        (3, 128)
    """

    def __init__(
        self,
        config: APMConfig,
        samples: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if samples < 1:
            raise InputError(f"stacking needs at least one sample, got {samples}")
        self.config = config
        with torch.device("meta"):
            shape = unset_apm(config)
        # Shapes and settings only: none of these modules of the pattern holds a number.
        self.__dict__["pattern"] = shape
        self.pattern: AsynchronousPerceptionMachine
        self.names = [name for name, _ in shape.named_parameters()]
        for name, parameter in shape.named_parameters():
            stacked = torch.zeros(samples, *parameter.shape, device=device, dtype=dtype)
            self.register_parameter(_attribute(name), nn.Parameter(stacked))

    @property
    def samples(self) -> int:
        """S, which `compact` makes smaller."""
        return len(self[self.names[0]])

    def __getitem__(self, name: str) -> Tensor:
        """The stacked parameter (S, ...) of an APM's parameter name."""
        return self.get_parameter(_attribute(name))

    # -- filling and emptying -------------------------------------------------------------------------------------

    @torch.no_grad()
    def load_sample(self, s: int, source: AsynchronousPerceptionMachine | Mapping[str, Tensor]) -> None:
        """Copy an APM, or its state dict, into sample s.

        Raises:
            InputError: no such sample, or parameters that are missing, unknown or of another shape.
        """
        state = source.state_dict() if isinstance(source, nn.Module) else source
        self._check_sample(s)
        self._check_state(state)
        for name in self.names:
            self[name][s].copy_(state[name])

    def state_of(self, s: int) -> dict[str, Tensor]:
        """Sample s as a single APM's state dict, copied.

        Raises:
            InputError: no such sample.
        """
        self._check_sample(s)
        return {name: self[name].detach()[s].clone() for name in self.names}

    def reset(self, generators: Sequence[torch.Generator], initialisation: str = "published") -> None:
        """Draw sample s from `generators[s]` (CPU), exactly as the single APM's `reset` does.

        Samples are drawn side by side, each from its own generator and so with the same numbers: one core alone would
        keep a GPU waiting for longer than the adaptation takes.

        Raises:
            InputError: not one generator a sample, or an unknown initialisation.
        """
        if len(generators) != self.samples:
            raise InputError(f"{self.samples} samples need as many generators, got {len(generators)}")
        first = self[self.names[0]]
        kept_here, singles = first.device.type == "cpu", []
        # Beside a GPU the cores have nothing else to do, however many threads a launcher gives to products.
        at_once = torch.get_num_threads() if kept_here else processes(0, self.samples, 1)
        for _ in range(min(at_once, self.samples)):
            single = copy.deepcopy(self.pattern)
            singles.append(single if kept_here else single.to_empty(device="cpu").to(first.dtype))

        def draw(single: AsynchronousPerceptionMachine, s: int) -> None:
            if kept_here:  # drawn where they are kept
                single.load_state_dict({name: self[name].detach()[s] for name in self.names}, assign=True)
            single.reset(generators[s], initialisation)

        with ThreadPoolExecutor(len(singles)) as pool:
            for start in range(0, self.samples, len(singles)):
                some = range(start, min(start + len(singles), self.samples))
                list(pool.map(draw, singles, some))
                if not kept_here:
                    for single, s in zip(singles, some):
                        self.load_sample(s, single)

    @torch.no_grad()
    def repeat(self, source: AsynchronousPerceptionMachine, own: Container[str]) -> None:
        """Make every sample `source`: one set of weights that all samples look at, but for those named in `own`, of
        which each has a copy, on the source's device. Only these may be changed; whoever trains a sample's weights
        lists them all.

        Raises:
            InputError: parameters of another configuration.
        """
        self._check_state(source.state_dict())
        for name, parameter in source.named_parameters():
            seen = parameter.detach().expand(self.samples, *parameter.shape)
            mine = name in own
            self.register_parameter(_attribute(name), nn.Parameter(seen.clone() if mine else seen, requires_grad=mine))

    def compact(self, keep: Sequence[int], optimiser: torch.optim.Optimizer | None = None) -> None:
        """Keep only these samples, in this order: those that are finished stop costing anything.

        The parameters are new ones afterwards; `optimiser` is told, and its state shrinks with them.

        Raises:
            InputError: nothing to keep, or a sample that does not exist.
        """
        if len(keep) == 0:
            raise InputError("nothing left to keep: compact needs at least one sample")
        for s in keep:
            self._check_sample(s)
        index = torch.tensor(list(keep), device=self[self.names[0]].device)
        for name in self.names:
            old = self[name]
            new = nn.Parameter(old.detach()[index], requires_grad=old.requires_grad)
            if old.grad is not None:
                new.grad = old.grad[index]
            self.register_parameter(_attribute(name), new)
            if optimiser is None:
                continue
            for group in optimiser.param_groups:
                group["params"] = [new if p is old else p for p in group["params"]]
            if old in optimiser.state:
                state = optimiser.state.pop(old)
                optimiser.state[new] = {
                    key: value[index] if isinstance(value, Tensor) and value.shape == old.shape else value
                    for key, value in state.items()
                }

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        if set(state) != set(self.names):
            odd = sorted(set(state) ^ set(self.names))
            raise InputError(f"the parameters do not fit this APM: {', '.join(odd[:3])} missing or unknown")
        for name in self.names:
            if state[name].shape != self[name].shape[1:]:
                raise InputError(
                    f"{name} is {tuple(state[name].shape)}, this APM's is {tuple(self[name].shape[1:])}: "
                    "another configuration"
                )

    def _check_sample(self, s: int) -> None:
        if not 0 <= s < self.samples:
            raise InputError(f"there is no sample {s}: the stack holds 0 to {self.samples - 1}")

    # -- running --------------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        queries: Tensor | Locations | None = None,
        outputs: tuple[str, ...] = ("token",),
    ) -> Percept:
        """Fold, unfold and read out all samples, each with its own weights.

        Args:
            images: (S, 3, image_size, image_size), one picture a sample.
            queries: (N, 2) for all, (S, N, 2) one set a sample, or what `locate` made of either; the default grid
                if None.
            outputs: of "features", "rgb" and "token".

        Returns:
            features (S, N, F), rgb (S, N, 3), token (S, F), where asked for.

        Raises:
            InputError: pictures that are not S of the right size, bad queries, an unknown output.
        """
        for name in outputs:
            if name not in OUTPUTS:
                raise unknown("output", name, OUTPUTS)
        check_outputs(self.pattern, outputs)
        side = self.config.image_size
        if images.shape != (self.samples, 3, side, side):
            raise InputError(
                f"{self.samples} stacked samples expect pictures ({self.samples}, 3, {side}, {side}), "
                f"got {tuple(images.shape)}"
            )
        where = locate(self.pattern.default_queries(images, "cpu") if queries is None else queries, images.device)
        if isinstance(queries, Tensor) and queries.ndim == 3 and len(queries) != self.samples:
            raise InputError(f"{self.samples} samples need as many sets of queries, got {len(queries)}")

        dtype = compute_dtype(self["feature_head.weight"])
        with torch.autocast(images.device.type, enabled=False):
            T = self._fold(images)
            token = features = rgb = None
            by_location = self.config.readout == "location"
            if "features" in outputs or "rgb" in outputs or not by_location:
                h, codes, local = self._trunk(T, where, images, dtype)
                if "features" in outputs:
                    features = self._linear("feature_head", h)
                if "rgb" in outputs:
                    rgb = self._colours(T, where, codes, local, h, features)
                if "token" in outputs and not by_location:
                    token = self._read(h, where)
            if "token" in outputs and by_location:
                x, y = self.pattern.read_location(where.x).unbind(-1)
                h, _, _ = self._trunk(T, Locations("grid", 1, x, y), images, dtype)
                token = self._linear("feature_head", h)[:, 0]
        if token is not None:
            token = token.to(self["feature_head.weight"].dtype)
        return Percept(features, rgb, token)

    def hidden(self, images: Tensor, where: Locations) -> Tensor:
        """What the trunk makes of the locations, (S, N, K): no read-out's parameters are in it, so that `token` can
        read it again after those have changed."""
        dtype = compute_dtype(self["feature_head.weight"])
        with torch.autocast(images.device.type, enabled=False):
            return self._trunk(self._fold(images), where, images, dtype)[0]

    def token(self, hidden: Tensor, where: Locations) -> Tensor:
        """The token over all locations, by "mean" or "attention": (S, N, K) -> (S, F), as `forward` has it."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self._read(hidden, where).to(self["feature_head.weight"].dtype)

    def _fold(self, images: Tensor) -> Tensor:
        """T: (S, 3, H, W) -> (S, D)."""
        W, b = self["fold.conv.weight"], self["fold.conv.bias"]
        patches = rearrange(images, "s c (h p) (w q) -> s (h w) (c p q)", p=W.shape[-2], q=W.shape[-1])
        folded = torch.baddbmm(b[:, None], patches, W.flatten(2).mT)
        return rearrange(folded, "s n c -> s (c n)")

    def _linear(self, name: str, x: Tensor) -> Tensor:
        """x_s W_s^T + b_s: (S, n, I) -> (S, n, O), in x's dtype."""
        return stacked_linear(x, self[f"{name}.weight"], self[f"{name}.bias"])

    def _trunk(
        self, T: Tensor, where: Locations, images: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """h (S, N, K), with the location code's rows and the local patches for the colour head."""
        codes = where.codes(self.pattern.location_code, T.dtype)
        local = None
        if self.pattern.local_patch is not None:
            points, patch = where.points(), self.pattern.local_patch
            if points.ndim == 2:
                local = patch(images, points)
            else:
                local = torch.cat([patch(image[None], own) for image, own in zip(images, points, strict=True)])
        (t, *rows), seen, _ = self._rows("trunk.0", 0, T, codes, local, [])
        h = self._combine(where, t, rows, seen, self.pattern.activation, dtype)
        for i in range(1, len(self.config.trunk)):
            h = activate(self.pattern.activation, self._linear(f"trunk.{i}", h))
        return h, codes, local

    def _rows(
        self,
        name: str,
        start: int,
        T: Tensor,
        codes: list[Tensor],
        local: Tensor | None,
        extra: list[tuple[int, Tensor]],
    ) -> tuple[list[Tensor], Tensor | None, list[Tensor]]:
        """A layer's products with the column's parts, whose columns begin at `start`: [t, rows...], patch, extra."""
        parts = [(start, T[:, None])]
        at = start + T.shape[-1]
        for code in codes:
            parts.append((at, code))
            at += code.shape[-1]
        rows = len(parts)
        if local is not None:
            parts.append((at, local))
        made = split_linear(self[f"{name}.weight"], self[f"{name}.bias"], parts + extra)
        seen = made[rows] if local is not None else None
        return list(made[:rows]), seen, list(made[len(parts) :])

    def _combine(
        self,
        where: Locations,
        t: Tensor,
        rows: list[Tensor],
        extra: Tensor | None,
        activation: nn.Module | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """activation(t_s + rows of each location + extra) -> (S, N, K)."""
        if where.kind == "grid" and extra is None and isinstance(activation, nn.ReLU):
            return add_relu(rows[0], t + rows[1], dtype).flatten(1, 2)
        s = where.spread([rows[0] + t, *rows[1:]])
        if extra is not None:
            s = s + extra
        s = s.to(dtype)
        return s if activation is None else activate(activation, s)

    def _colours(
        self,
        T: Tensor,
        where: Locations,
        codes: list[Tensor],
        local: Tensor | None,
        h: Tensor,
        features: Tensor | None,
    ) -> Tensor:
        """rgb: (S, N, 3)."""
        assert self.config.rgb is not None
        if features is None:
            W, b = self["feature_head.weight"], self["feature_head.bias"]
            from_f = torch.cat([W.mT, b[:, None]], dim=1)
        else:
            from_f = features
        (t, *rows), patch, (seen,) = self._rows("rgb_head.0", self.config.features, T, codes, local, [(0, from_f)])
        if features is None:
            seen, t = torch.bmm(h, seen[:, :-1].to(h.dtype)), t + seen[:, -1:]
        if patch is not None:
            seen = seen + patch
        last = len(self.config.rgb)
        colour = self._combine(where, t, rows, seen, self.pattern.activation if last else None, h.dtype)
        for i in range(1, last + 1):
            colour = self._linear(f"rgb_head.{i}", colour)
            if i < last:
                colour = activate(self.pattern.activation, colour)
        return colour.relu() if self.config.rgb_relu else colour

    def _read(self, h: Tensor, where: Locations) -> Tensor:
        """The token over all locations, "mean" or "attention": (S, N, K) -> (S, F), in float32 or better."""
        W_F, b_F = wide(self["feature_head.weight"]), wide(self["feature_head.bias"])
        if self.config.readout == "mean":
            mean = h.mean(1, keepdim=True, dtype=W_F.dtype)
            return torch.baddbmm(b_F[:, None], mean, W_F.mT)[:, 0]
        S, F, H = self.samples, self.config.features, self.config.heads
        W_Q, W_K, W_V = wide(self["attention.in_proj_weight"]).chunk(3, dim=1)
        b_Q, _, b_V = wide(self["attention.in_proj_bias"]).chunk(3, dim=1)
        q = torch.baddbmm(b_Q[:, None], wide(self["query"])[:, None], W_Q.mT).view(S, H, 1, F // H)
        c = (q / math.sqrt(F // H) @ W_K.reshape(S, H, F // H, F))[:, :, 0]
        h = wide(h)
        codes = where.codes(self.pattern.feature_location_code, c.dtype)
        halves = [c] if len(codes) == 1 else list(c.chunk(2, dim=-1))
        scores = torch.bmm(h, torch.bmm(c, W_F).mT)
        scores = scores + where.spread([p @ half.mT for p, half in zip(codes, halves, strict=True)])
        alpha = scores.softmax(dim=1).mT
        f = torch.baddbmm(b_F[:, None], torch.bmm(alpha, h), W_F.mT) + where.pool(alpha, codes)
        o = (f[:, :, None] @ W_V.reshape(S, H, F // H, F).mT).flatten(1) + b_V
        W_O, b_O = wide(self["attention.out_proj.weight"]), wide(self["attention.out_proj.bias"])
        return torch.baddbmm(b_O[:, None], o[:, None], W_O.mT)[:, 0]
