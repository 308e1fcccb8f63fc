"""A recurrent network that watches a boring video: the picture at the bottom, the label at the top (section 3.4).

A layer's total input comes from the normalised states below and above at the previous time step,

    a_k = n_{k-1} U_k + n_{k+1} V_k + b_k,    s_k <- damping s_k + (1 - damping) relu(a_k),    n_k = normalise(s_k)

all layers at once (the paper tried odd and even layers in turn first, and found damping to make that unnecessary).
It starts from one bottom-up pass without a label. Each layer learns from its own goodness at every iteration, the
states of the step before taken as given: nothing goes back through time or through layers. With `Local` maps it is the
network of section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from glom.forward_forward.goodness import active_rows, length_scale, normalise, sides, sum_squares
from glom.forward_forward.layers import Layer, Readout
from glom.forward_forward.maps import Dense, Grid, LinearMap, Local
from glom.forward_forward.samples import choose_wrong
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.weights import Workspace


class Risen(NamedTuple):
    """What the bottom-up pass of pictures (B, inputs) leaves in every layer.

    Attributes:
        drive: (B, n_1), what the picture gives the first layer. first: what each layer's neighbours give it in the
            first iteration, (B, n); of the top layer without the label, so that no label and no wrong one changes it.
        states, normal: (B, n).
    """

    drive: Tensor
    first: list[Tensor]
    states: list[Tensor]
    normal: list[Tensor]


class Recurrent:
    """Hidden layers between a picture and a label, updated synchronously with damping.

    Args:
        shape: of the picture. classes: how many labels.
        generator: draws the initial weights; its device is the network's.

    Attributes:
        grids: where each hidden layer's units are; one place where they are fully connected.
        sparse: leave rows that a gradient cannot feel out of it, see `active_rows`.
    """

    def __init__(self, shape: Grid, classes: int, settings: FFSettings, generator: torch.Generator) -> None:
        self.classes, self.settings = classes, settings
        self.dtype = torch.bfloat16 if settings.precision == "bf16" else torch.get_default_dtype()
        device = generator.device
        self.local = local = settings.mode == "local"
        # Of a local map rows are columns, slow to gather; on a device their number would have to be asked for.
        self.sparse = device.type == "cpu" and not local
        self.grids = [Grid(c, shape.height, shape.width) if local else Grid(c, 1, 1) for c in settings.widths]
        grids = [shape, *self.grids]

        def connect(source: Grid, target: Grid) -> LinearMap:
            if local:
                return Local(source, target, settings.field, generator, settings.decay, self.dtype)
            return Dense(source.units, target.units, generator, settings.decay, self.dtype)

        self.layers = []
        for k in range(1, len(grids)):
            up = connect(grids[k - 1], grids[k])
            if k + 1 < len(grids):
                down = connect(grids[k + 1], grids[k])
            else:
                down = Dense(classes, grids[k].units, generator, settings.decay, self.dtype)
            self.layers.append(Layer([up, down], settings.rule, device))
        self.readout = Readout([layer.units for layer in self.layers], classes, settings, device)
        # One-of-N vectors of N entries brought to a mean square of 1.
        self._clamped = torch.eye(classes, dtype=self.dtype, device=device) * classes**0.5
        self._work = Workspace(device)

    def _bottom_up(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of pictures (B, inputs) what each layer is given from below, its states and normalised states, (B, n)."""
        below: list[Tensor] = []
        states: list[Tensor] = []
        normal = [normalise(x)]
        for layer in self.layers:
            below.append(layer.maps[0](normal[-1]))
            states.append(torch.relu(below[-1] + layer.bias.working))
            normal.append(normalise(states[-1]))
        return below, states, normal[1:]

    def rise(self, x: Tensor) -> Risen:
        """The bottom-up pass of pictures (B, inputs), and what is the same for every label after it."""
        below, states, normal = self._bottom_up(x)
        return Risen(below[0], self._given(below, normal), states, normal)

    def _given(self, below: list[Tensor], normal: list[Tensor]) -> list[Tensor]:
        """What each layer is given by its neighbours, the top one without the label: from `below` and from above."""
        above = [layer.maps[1](n) for layer, n in zip(self.layers, normal[1:], strict=False)]
        return [*(b + a for b, a in zip(below, above, strict=False)), below[-1]]

    def settle(
        self, risen: Risen, labels: Tensor
    ) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]]:
        """The iterations, with the label clamped at the top.

        Args:
            risen: the bottom-up pass of B pictures; not changed.
            labels: (R,), of all pictures one after another, once or several times.

        Yields:
            fresh (R, n), the rectified new part, states, their sums of squares (R,) and normalised states of every
            layer, after each iteration.
        """
        damping, times = self.settings.damping, len(labels) // len(risen.drive)
        clamped, W = self._clamped[labels], self.layers[-1].maps[1].weights.working
        clamp = (W.T @ clamped.T).T if self.local else clamped @ W
        drive, states = self._repeat(risen.drive, times), [self._repeat(s, times) for s in risen.states]
        given, normal = [self._repeat(g, times) for g in risen.first], list[Tensor]()
        for _ in range(self.settings.iterations):
            if normal:
                below = [layer.maps[0](n) for layer, n in zip(self.layers[1:], normal, strict=False)]
                given = self._given([drive, *below], normal)
            given[-1] = given[-1] + clamp
            fresh = [(g + layer.bias.working).relu_() for g, layer in zip(given, self.layers, strict=True)]
            states = [torch.lerp(new, old, damping) for new, old in zip(fresh, states, strict=True)]
            squares = [sum_squares(s) for s in states]
            normal = [
                s * length_scale(q, layer.units)[:, None].to(s.dtype)
                for s, q, layer in zip(states, squares, self.layers, strict=True)
            ]
            yield fresh, states, squares, normal

    # -- learning --------------------------------------------------------------------------------------------------

    def learn(self, x: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step: the bottom-up pass, wrong labels by its read-out, both videos watched, every layer moved.

        Args:
            x: (B, inputs) pictures in the network's dtype. labels: (B,).
            share: of the learning rates.

        Returns:
            the read-out's logits (B, classes) from before the step, and the sums of squares (layers, 2B) at the last
            iteration that is read, negative rows first.
        """
        settings, b, steps = self.settings, len(x), self.settings.iterations
        risen = self.rise(x)
        logits = self.readout.learn(risen.normal, labels, share)
        hard = logits if settings.negatives == "hard" else None
        both = torch.cat([choose_wrong(labels, hard, self.classes, generator), labels])
        rows = 2 * b
        seen, errors = self._buffers("normal", steps * rows), self._buffers("error", steps * rows)
        means = [torch.zeros_like(a.mean) for a in self.layers]
        push = [torch.empty(steps, rows, device=x.device) for _ in self.layers]
        found, side = torch.empty(0), sides(b, x.device)
        before = [self._repeat(n, 2) for n in risen.normal]
        for t, (fresh, now, squares, after) in enumerate(self.settle(risen, both)):
            here = slice(t * rows, (t + 1) * rows)
            for k, layer in enumerate(self.layers):
                seen[k][here] = before[k]
                push[k][t] = layer.rule.push(squares[k], layer.units, side)
                self._error(fresh[k], now[k], push[k][t], errors[k][here])
                means[k] += now[k][b:].mean(0, dtype=layer.mean.dtype) / steps
            before = after
            if t + 1 == settings.read[1]:
                found = torch.stack(squares)
        pulls = [layer.pull(mean) for layer, mean in zip(self.layers, means, strict=True)]
        self._accumulate(normalise(x), seen, errors, push, pulls, both)
        for layer in self.layers:
            layer.step(settings.lr * share)
        return logits, found

    # Where maps are local the values of a unit over all rows lie side by side, see `Local`.

    def _repeat(self, x: Tensor, times: int) -> Tensor:
        if times == 1:
            return x
        return x.T.repeat(1, times).T if self.local else x.repeat(times, 1)

    def _buffers(self, name: str, rows: int) -> list[Tensor]:
        """(rows, n) a layer, in that order."""
        shape = lambda n: (n, rows) if self.local else (rows, n)  # noqa: E731
        held = [self._work(f"{name} {k}", shape(a.units), self.dtype) for k, a in enumerate(self.layers)]
        return [one.T for one in held] if self.local else held

    def _over(self, d: Tensor, times: int) -> Tensor:
        """The sum (R, n) over the first part of rows (times R, n)."""
        if self.local:  # the same sum in the order the memory has
            return d.T.unflatten(1, (times, -1)).sum(1).T
        return d.unflatten(0, (times, -1)).sum(0)

    def _error(self, fresh: Tensor, now: Tensor, push: Tensor, out: Tensor) -> None:
        """What one iteration asks of `a`, -dloss/da (2B, n), negative rows first, but for peer normalisation.

        The damped state follows `a` by 1 - damping.
        """
        wanted = now * (push * (1 - self.settings.damping))[:, None].to(out.dtype)
        # Unlike a fresh state, a damped one may be positive where the unit is off: so the rectifier's derivative.
        torch.ops.aten.threshold_backward.grad_input(wanted, fresh, 0, grad_input=out)

    def _accumulate(
        self,
        x: Tensor,
        seen: list[Tensor],
        errors: list[Tensor],
        push: list[Tensor],
        pulls: list[Tensor | None],
        labels: Tensor,
    ) -> None:
        """Smoothed gradients of all maps: every map's iterations are one product, of the rows that it feels.

        Args:
            x: (B, inputs). seen, errors: (iterations 2B, n) a layer. push: (iterations, 2B) a layer.
            pulls: (n,) a layer, see `Layer.pull`. labels: (2B,).
        """
        steps, keep, b = self.settings.iterations, self.settings.momentum, len(x)
        scale = (1 - keep) / (steps * b)

        def positive(t: Tensor) -> Tensor:
            return t.unflatten(0, (steps, 2, b))[:, 1]

        for k, (layer, d, pull) in enumerate(zip(self.layers, errors, pulls, strict=True)):
            up, down = layer.maps
            rows = active_rows(push[k].flatten()) if self.sparse else None
            pull = pull if pull is None else pull.to(d.dtype)
            if pull is not None and rows is None:
                positive(d).add_(pull)
            total = self._over(d, steps)
            if rows is not None:
                d = d.index_select(0, rows)
                if pull is not None:  # what it asks of every positive row, it asks once of their sum
                    total[b:] += steps * pull
                    d = torch.cat([d, pull[None]])

            def given(n: Tensor, rows: Tensor | None = rows, pulled: bool = pull is not None) -> Tensor:
                if rows is None:
                    return n
                picked = n.index_select(0, rows)
                return torch.cat([picked, positive(n).sum((0, 1))[None]]) if pulled else picked

            if k == 0:
                up.accumulate(x, self._over(total, 2), keep, scale)
            else:
                up.accumulate(given(seen[k - 1]), d, keep, scale)
            if k + 1 == len(self.layers):
                down.accumulate(self._clamped[labels], total, keep, scale)
            else:
                down.accumulate(given(seen[k + 1]), d, keep, scale)
            layer.bias.add(total.sum(0, dtype=layer.mean.dtype), keep, scale)

    # -- answers ---------------------------------------------------------------------------------------------------

    def watch(self, x: Tensor, iterations: int | None = None) -> Tensor:
        """Every layer's goodness times its sign by iteration, (R, classes, iterations, layers); by default of all."""
        x = x.to(self.dtype)
        rule = self.settings.rule
        risen = self.rise(x)
        tables = []
        for label in range(self.classes):
            labels = torch.full((len(x),), label, device=x.device)
            by_iteration = []
            for _, _, squares, _ in islice(self.settle(risen, labels), iterations):
                values = [rule.value(q, a.units) for q, a in zip(squares, self.layers, strict=True)]
                by_iteration.append(rule.sign * torch.stack(values, -1))
            tables.append(torch.stack(by_iteration, 1))
        return torch.stack(tables, 1)

    def located(self, x: Tensor, labels: Tensor) -> Iterator[list[Tensor]]:
        """States at their places, for pictures (R, inputs) and the labels (R,) they are watched with.

        Yields:
            every layer's (R, H, W, units at a location), after each iteration. A fully connected layer has one place.
        """
        for _, now, _, _ in self.settle(self.rise(x.to(self.dtype)), labels):
            yield [
                s.unflatten(1, (g.channels, g.height, g.width)).permute(0, 2, 3, 1)
                for s, g in zip(now, self.grids, strict=True)
            ]

    def goodness(self, x: Tensor) -> Tensor:
        """(R, classes, layers): the mean over the iterations that are read, the 3rd to the 5th as published."""
        first, last = self.settings.read
        return self.watch(x, last)[:, :, first - 1 :].mean(2)

    def label_scores(self, x: Tensor) -> Tensor:
        """(R, classes): goodness summed over the layers."""
        return self.goodness(x).sum(-1)

    def readout_logits(self, x: Tensor) -> Tensor:
        """(R, classes) from the bottom-up pass alone."""
        return self.readout.logits(self._bottom_up(x.to(self.dtype))[2])
