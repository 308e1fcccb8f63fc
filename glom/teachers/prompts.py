"""Sentences whose first words are vectors that can be learned: what prompt tuning needs of a text encoder.

    v_1 v_2 ... v_n NAME.        (CoOp: Zhou et al. 2022, "Learning to Prompt for Vision-Language Models", equation 2)

The encoder's own forward runs; a hook puts the vectors where the words' embeddings would be. So this works for
open_clip's two kinds of CLIP and for transformers' CLIP alike, and with the words' own embeddings it gives the plain
sentence's features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from glom.errors import InputError
from glom.teachers.base import Teacher
from glom.teachers.zero_shot import check_classes

PLACEHOLDER = "X"


class _SeenError(Exception):
    """The ids are known: the encoder may stop."""


class PromptedText:
    """`n` context vectors before each class name.

    Attributes:
        initial: (n, d) what the context starts from: the embeddings of `words`, or normal(0, 0.02) draws.
        length, width: n and d.

    Args:
        teacher: a CLIP with a text encoder.
        classes: C names.
        words: the words the context replaces ("a photo of a"), or how many vectors to draw.
        generator: draws them.

    Raises:
        InputError: no text encoder, one without a table of word embeddings, or sentences that do not fit its length.
    """

    def __init__(
        self,
        teacher: Teacher,
        classes: Sequence[str],
        words: str | int = "a photo of a",
        generator: torch.Generator | None = None,
    ) -> None:
        check_classes(classes)
        if not teacher.has_text:
            raise InputError(f"{teacher.name} has no text encoder, which prompts are for: {teacher.no_text}")
        tables = [m for name, m in teacher.model.named_modules() if name.endswith("token_embedding")]
        if len(tables) != 1 or not isinstance(tables[0], nn.Embedding):
            raise InputError(f"{teacher.name}: its text encoder has no table of word embeddings that can be replaced")
        self._teacher, self._table = teacher, tables[0]
        if isinstance(words, int) and words < 1:
            raise InputError(f"a prompt needs at least one context vector, got {words}")
        prefix = " ".join([PLACEHOLDER] * words) if isinstance(words, int) else words
        self.sentences = [f"{prefix} {name}." for name in classes]
        (first, second), (one, other) = self._ids([prefix + " dog", prefix + " cat"]), self._ids(["dog", "cat"])
        self._start, end = _shared(one, other), _shared(first, second)
        self.length = end - self._start
        if self.length < 1 or (isinstance(words, int) and self.length != words):
            raise InputError(f"{teacher.name}: a context of {words!r} and a class name exceed its length of text")
        cut = self._cut(classes)
        if cut:
            more = f" (and {len(cut) - 1} more)" if len(cut) > 1 else ""
            raise InputError(
                f"{teacher.name}: {self.length} context vectors and the class name '{cut[0]}'{more} exceed its text "
                "length"
            )
        self.width = self._table.embedding_dim
        if isinstance(words, int):
            drawn = torch.randn(self.length, self.width, generator=generator)
            self.initial = (0.02 * drawn).to(teacher.device)
        else:
            with torch.no_grad():
                self.initial = self._table(first[self._start : end].to(teacher.device)).float().clone()

    def __call__(self, context: Tensor) -> Tensor:
        """Class features, differentiable in the context.

        Args:
            context: (n, d), or (B, n, d) for a context of each picture's own.

        Returns:
            (C, F) or (B, C, F) float32, not normalised.
        """
        own = context.ndim == 3
        B, C = (len(context), len(self.sentences)) if own else (1, len(self.sentences))
        rows = context[:, None].expand(B, C, *context.shape[1:]).flatten(0, 1) if own else context.expand(C, -1, -1)
        with self._replaced(rows):
            features = self._teacher.texts_with_grad(self.sentences * B).float()
        return features.unflatten(0, (B, C)) if own else features

    @contextmanager
    def _replaced(self, rows: Tensor) -> Iterator[None]:
        start, end = self._start, self._start + self.length

        def put(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return torch.cat([output[:, :start], rows.to(output.dtype), output[:, end:]], dim=1)

        handle = self._table.register_forward_hook(put)
        try:
            yield
        finally:
            handle.remove()

    def _cut(self, classes: Sequence[str]) -> list[str]:
        """The names that are not whole behind the context, each once.

        A sentence that is cut off may still end with the end-of-text token, and equal names have equal ids, so that
        ids alone tell nothing. What follows the context is therefore compared with what follows a single word: the
        name, its full stop and the end-of-text token must be there, and only padding may be missing.
        """
        rest = self._ids(self.sentences)[:, self._start + self.length :]
        dog, cat = self._ids([f"{PLACEHOLDER} dog", f"{PLACEHOLDER} cat"])
        whole = self._ids([f"{PLACEHOLDER} {name}." for name in classes])[:, _shared(dog, cat) :]
        width = min(rest.shape[1], whole.shape[1])
        padding = dog[-1]  # or the end-of-text token itself, where a tokenizer pads to the longest sentence alone
        cut = (rest[:, :width] != whole[:, :width]).any(1) | (whole[:, width:] != padding).any(1)
        return list(dict.fromkeys(name for name, is_cut in zip(classes, cut.tolist(), strict=True) if is_cut))

    def _ids(self, sentences: list[str]) -> Tensor:
        """Token ids (N, L) as the encoder sees them; what comes behind its table of words need not run."""
        seen: list[Tensor] = []

        def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0].detach().cpu())
            raise _SeenError

        handle = self._table.register_forward_pre_hook(stop)
        try:
            with torch.no_grad(), suppress(_SeenError):
                self._teacher.texts_with_grad(sentences)
        finally:
            handle.remove()
        return seen[0]


def _shared(a: Tensor, b: Tensor) -> int:
    """How many ids two sentences share from their beginning."""
    same = (a == b).long().cumprod(0)
    return int(same.sum())
