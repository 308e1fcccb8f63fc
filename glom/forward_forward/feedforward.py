"""Fully connected forward-forward networks, supervised and unsupervised (Hinton 2022, sections 3.2 and 3.3)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from glom.forward_forward.goodness import active_rows, length_scale, sides, sum_squares
from glom.forward_forward.layers import Layer, Readout
from glom.forward_forward.maps import Dense
from glom.forward_forward.samples import choose_wrong
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.threads import narrow, wide
from glom.forward_forward.weights import Workspace


class FeedForward:
    """Hidden layers that each learn by their own goodness, and a softmax over all but the first of them.

    Supervised, the first `classes` pixels hold the label: one-of-N, or 1/N each for a neutral one. Pictures are given
    with those pixels at zero. Since the label only adds one row of W_1 to the picture's product,

        relu((x W_1 + W_1[label]) sqrt(n) / |(x, label)| + b),

    the picture meets W_1 once for its right, neutral and wrong label (for all ten in `goodness`), forward and backward.

    Args:
        inputs: pixels of a picture. classes: how many labels.
        generator: draws the initial weights; its device is the network's.

    Attributes:
        units: (layers, 1), of each layer.
        sparse: leave rows that a gradient cannot feel out of it, see `active_rows`.
    """

    def __init__(self, inputs: int, classes: int, settings: FFSettings, generator: torch.Generator) -> None:
        self.inputs, self.classes, self.settings = inputs, classes, settings
        self.labelled = settings.mode == "supervised"
        self.sparse = generator.device.type == "cpu"  # elsewhere the number of rows would have to be asked for
        self.dtype = torch.bfloat16 if settings.precision == "bf16" else torch.get_default_dtype()
        device, rule = generator.device, settings.rule
        sizes = [inputs, *settings.widths]
        self.layers = [
            Layer([Dense(i, o, generator, settings.decay, self.dtype)], rule, device)
            for i, o in itertools.pairwise(sizes)
        ]
        self.used = self.layers[1:] or self.layers
        self.readout = Readout([layer.units for layer in self.used], classes, settings, device)
        self.units = torch.tensor([[layer.units] for layer in self.layers], device=device)
        self._one_hot = torch.eye(classes, dtype=self.dtype, device=device)
        self._work = Workspace(device)

    # -- forward ---------------------------------------------------------------------------------------------------

    def _buffers(self, rows: int) -> tuple[list[Tensor], list[Tensor]]:
        states = [self._work(f"states {k}", (rows, a.units), self.dtype) for k, a in enumerate(self.layers)]
        normal = [self._work(f"normal {k}", (rows, a.units), self.dtype) for k, a in enumerate(self.layers)]
        return states, normal

    def _first(self, product: Tensor, energy: Tensor, labels: Tensor | None, out: Tensor) -> Tensor:
        """The first layer's total input with one label a row, or the neutral one; returns the length scales (R,)."""
        layer = self.layers[0]
        table = layer.maps[0].weights.working[: self.classes]
        if labels is None:
            torch.add(product, table.mean(0), out=out)
        else:
            rows = self._work("label rows", tuple(product.shape), self.dtype)
            torch.add(product, torch.index_select(table.contiguous(), 0, labels, out=rows), out=out)
        scale = length_scale(energy + (1.0 if labels is not None else 1.0 / self.classes), self.inputs)
        torch.addcmul(layer.bias.working, out, scale[:, None].to(out.dtype), out=out)
        return scale

    def _rise(
        self, states: list[Tensor], normal: list[Tensor], rows: slice, squares: list[Tensor] | None
    ) -> list[Tensor]:
        """All layers above those of which `squares` are given, for some rows of the buffers."""
        found = list(squares or [])
        for k in range(len(found), len(self.layers)):
            layer = self.layers[k]
            out = states[k][rows]
            W = layer.maps[0].weights.working
            with wide(W.numel()):
                torch.addmm(layer.bias.working, normal[k - 1][rows], W, out=out)
            found.append(layer.fire(out, normal[k][rows]))
        return found

    def _labelled(
        self, product: Tensor, energy: Tensor, labels: Tensor | None, buffers: tuple[list[Tensor], list[Tensor]]
    ) -> list[Tensor]:
        """Sums of squares of every layer for one label a row; states are left in the buffers."""
        states, normal = buffers
        self._first(product, energy, labels, states[0])
        first = self.layers[0].fire(states[0], normal[0])
        return self._rise(states, normal, slice(None), [first])

    def _plain(self, x: Tensor, buffers: tuple[list[Tensor], list[Tensor]]) -> list[Tensor]:
        states, normal = buffers
        layer = self.layers[0]
        W = layer.maps[0].weights.working
        with wide(W.numel()):
            torch.addmm(layer.bias.working, x, W, out=states[0])
        return self._rise(states, normal, slice(None), [layer.fire(states[0], normal[0])])

    def _rows(self, x: Tensor) -> Tensor:
        scale = length_scale(sum_squares(x), self.inputs)[:, None].to(x.dtype)
        return torch.mul(x, scale, out=self._work("input", tuple(x.shape), self.dtype))

    # -- learning --------------------------------------------------------------------------------------------------

    @narrow()
    def learn(self, x: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One supervised step.

        Args:
            x: (B, inputs) pictures in the network's dtype, label pixels zero. labels: (B,).
            share: of the learning rates, see `FFSettings.rate_share`.

        Returns:
            the read-out's logits (B, classes) from before the step, and the sums of squares (layers, 2B), negative
            rows first.
        """
        b = len(x)
        states, normal = self._buffers(3 * b)
        energy = sum_squares(x)
        layer = self.layers[0]
        product = self._work("product", (b, layer.units), self.dtype)
        W = layer.maps[0].weights.working
        with wide(W.numel()):
            torch.mm(x, W, out=product)
        right, neutral, wrong = slice(b, 2 * b), slice(2 * b, 3 * b), slice(0, b)
        scale_right = self._first(product, energy, labels, states[0][right])
        self._first(product, energy, None, states[0][neutral])
        both = slice(b, 3 * b)
        squares = self._rise(states, normal, both, [layer.fire(states[0][both], normal[0][both])])
        logits = self.readout.learn([normal[self.layers.index(a)][neutral] for a in self.used], labels, share)
        hard = logits if self.settings.negatives == "hard" else None
        others = choose_wrong(labels, hard, self.classes, generator)
        scale_wrong = self._first(product, energy, others, states[0][wrong])
        below = self._rise(states, normal, wrong, [layer.fire(states[0][wrong], normal[0][wrong])])
        found = torch.cat([torch.stack(below), torch.stack(squares)[:, :b]], 1)
        push = self.settings.rule.push(found, self.units, sides(b, x.device))
        self._descend_labelled(
            x, states[0], push[0], torch.cat([scale_wrong, scale_right]), torch.cat([others, labels])
        )
        self._descend(range(1, len(self.layers)), [x, *normal], states, push, b)
        self._step(share)
        return logits, found

    @narrow()
    def learn_unlabelled(self, right: Tensor, wrong: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """One unsupervised step on real and negative pictures (B, inputs) each; labels teach the read-out alone."""
        b = len(right)
        buffers = states, normal = self._buffers(2 * b)
        x = self._rows(torch.cat([wrong, right]))
        found = torch.stack(self._plain(x, buffers))
        logits = self.readout.learn([normal[self.layers.index(a)][b:] for a in self.used], labels, share)
        push = self.settings.rule.push(found, self.units, sides(b, x.device))
        self._descend(range(len(self.layers)), [x, *normal], states, push, b)
        self._step(share)
        return logits, found

    def _wanted(self, k: int, states: Tensor, push: Tensor, b: int) -> tuple[Tensor | None, Tensor]:
        """What layer k's rows ask of its total input, and the sum of that into its bias.

        Args:
            states: of at least 2B rows, negative ones first. push: (2B,), see `Rule.push`.

        Returns:
            None and -dloss/da (2B, n), peer normalisation in it; or the rows (R,) that ask for anything and
            (R, n) of them, followed by what peer normalisation asks of the sum of all positive rows, (R or R + 1, n).
        """
        layer, keep, scale = self.layers[k], self.settings.momentum, (1 - self.settings.momentum) / b
        pull = layer.pull(states[b : 2 * b].mean(0, dtype=layer.mean.dtype))
        rows = active_rows(push) if self.sparse else None
        d = self._work(f"error {k}", (2 * b + 1, layer.units), self.dtype)
        # Where a unit is off its state is zero, so the rectifier's derivative needs no mask.
        if rows is None:
            d = d[: 2 * b]
            torch.mul(states[: 2 * b], push[:, None].to(d.dtype), out=d)
            if pull is not None:
                d[b:] += pull.to(d.dtype)
            total = d.sum(0, dtype=layer.mean.dtype)
        else:
            n = len(rows)
            torch.index_select(states, 0, rows, out=d[:n]).mul_(push[rows, None].to(d.dtype))
            total = d[:n].sum(0, dtype=layer.mean.dtype)
            if pull is not None:
                total += b * pull
                d[n], n = pull, n + 1
            d = d[:n]
        layer.bias.add(total, keep, scale)
        return rows, d

    def _descend(self, ks: range, inputs: list[Tensor], states: list[Tensor], push: Tensor, b: int) -> None:
        """Gradients of layers ks, from every layer's inputs and states of 2B rows, negative ones first."""
        keep, scale = self.settings.momentum, (1 - self.settings.momentum) / b
        for k in ks:
            rows, d = self._wanted(k, states[k], push[k], b)
            x = inputs[k][: 2 * b]
            if rows is not None:
                given = self._work(f"given {k}", (2 * b + 1, x.shape[1]), self.dtype)
                torch.index_select(x, 0, rows, out=given[: len(rows)])
                if len(d) > len(rows):
                    torch.sum(x[b:], 0, out=given[len(rows)])
                x = given[: len(d)]
            self.layers[k].maps[0].accumulate(x, d, keep, scale)

    def _descend_labelled(self, x: Tensor, states: Tensor, push: Tensor, scales: Tensor, labels: Tensor) -> None:
        """The first layer's gradient where its input is a picture and one of two labels.

        Args:
            x: (B, inputs) pictures. scales, labels: (2B,), negative rows first.
        """
        b, keep = len(x), self.settings.momentum
        scale = (1 - keep) / b
        rows, d = self._wanted(0, states, push, b)
        weights, scales = self.layers[0].maps[0].weights, scales[:, None].to(d.dtype)
        hot = self._one_hot[labels] * scales
        if rows is None:
            # Right and wrong labels meet the same picture, so that one product serves both.
            weights.accumulate(x, d[:b] * scales[:b] + d[b:] * scales[b:], keep, scale)
        else:
            n = len(rows)
            given = self._work("given 0", (2 * b + 1, x.shape[1]), self.dtype)
            torch.index_select(x, 0, rows % b, out=given[:n]).mul_(scales[rows])
            hot, positive = hot[rows], hot[b:]
            if len(d) > n:
                torch.mm(scales[b:].T, x, out=given[n : n + 1])
                hot = torch.cat([hot, positive.sum(0, keepdim=True)])
            weights.accumulate(given[: len(d)], d, keep, scale)
        weights.add_rows(hot.T @ d, scale)

    def _step(self, share: float) -> None:
        for layer in self.layers:
            layer.step(self.settings.lr * share)

    # -- answers ---------------------------------------------------------------------------------------------------

    def goodness(self, x: Tensor) -> Tensor:
        """Every layer's goodness times its sign, (R, classes, layers): for every label where the label is an input."""
        x = x.to(self.dtype)
        buffers = self._buffers(len(x))
        if not self.labelled:
            found = self._plain(self._rows(x), buffers)
            return self._values(found)[:, None].expand(-1, self.classes, -1)
        energy, product = sum_squares(x), x @ self.layers[0].maps[0].weights.working
        tables = []
        for label in range(self.classes):
            labels = torch.full((len(x),), label, device=x.device)
            tables.append(self._values(self._labelled(product, energy, labels, buffers)))
        return torch.stack(tables, 1)

    def _values(self, squares: list[Tensor]) -> Tensor:
        rule = self.settings.rule
        return torch.stack([rule.sign * rule.value(s, a.units) for s, a in zip(squares, self.layers, strict=True)], -1)

    def label_scores(self, x: Tensor) -> Tensor:
        """(R, classes): goodness summed over all layers but the first."""
        return self.goodness(x)[..., len(self.layers) - len(self.used) :].sum(-1)

    def readout_logits(self, x: Tensor) -> Tensor:
        """(R, classes) from a single pass, with the neutral label where labels are an input."""
        x = x.to(self.dtype)
        buffers = self._buffers(len(x))
        if self.labelled:
            self._labelled(x @ self.layers[0].maps[0].weights.working, sum_squares(x), None, buffers)
        else:
            self._plain(self._rows(x), buffers)
        return self.readout.logits([buffers[1][self.layers.index(a)] for a in self.used])
