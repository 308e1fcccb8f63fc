"""A GLOM to hold in the hand: trained on pictures, saved, shared and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from glom.consensus.checkpoint import WEIGHTS, load_glom, save_glom
from glom.consensus.config import GlomConfig, TrainSettings
from glom.consensus.model import Glom
from glom.consensus.training import Trainer
from glom.errors import InputError
from glom.hub import Pretrained
from glom.pictures import Picture, as_images
from glom.runs.seeds import fixed_seed, sample_seed


class PretrainedGlom(Glom, Pretrained):
    """Columns of levels that settle into islands of agreement (Hinton 2021, arXiv 2102.12627).

    Called on pictures (B, 3, H, W) in [0, 1] it gives the state of every level at every column, (B, n, L, d).

    Args:
        config: every width and choice; None for the defaults.
        facts: what is known about its weights.
        seed: of the initial weights; the caller's random numbers are left alone.

    Example:
        >>> network = PretrainedGlom(GlomConfig(levels=3, dim=16, hidden=16, iterations=2))
        >>> network(torch.rand(1, 3, 16, 12)).shape
        torch.Size([1, 12, 3, 16])
    """

    FILE: ClassVar[str] = WEIGHTS

    def __init__(self, config: GlomConfig | None = None, facts: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        with fixed_seed(sample_seed(seed, "glom", "weights")):
            super().__init__(config or GlomConfig())
        self.facts = dict(facts or {})
        self.history: list[float] = []

    def fit(self, pictures: Sequence[Picture] | Tensor, **settings: Any) -> Self:
        """Train it in place, by the step that `apm glom train` takes.

        Args:
            pictures: a list of them, or a batch (N, 3, H, W), each squeezed to `size` and drawn at random.
            settings: fields of `TrainSettings` - `steps`, `batch`, `lr`, `objective`, `size`, `seed`, ... -, but for
                the data's own and `config`.

        Returns:
            itself; `history` holds the loss of every step.

        Raises:
            InputError: pictures or settings that are none. RunError: a training that diverged.
        """
        idle = sorted({"data", "source", "limit", "config"} & set(settings))
        if idle:
            raise InputError(f"fit takes no '{idle[0]}': its pictures and its network are given already")
        try:
            how = TrainSettings(config=self.config, **settings)
        except TypeError as error:
            raise InputError(f"these are no settings of a training: {error}") from error
        images = [image.convert("RGB").resize((how.size, how.size)) for image in as_images(pictures)]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 255

        def draw(count: int, generator: torch.Generator) -> Tensor:
            return pixels[torch.randint(len(pixels), (count,), generator=generator)]

        trainer = Trainer(self.train(), how, draw)
        self.history = [values[0] for values in trainer.training.run(trainer.loss)]
        self.facts |= {"objective": how.objective, "steps": how.steps, "size": how.size, "seed": how.seed}
        return self.eval()

    def write_file(self, folder: Path) -> Path:
        return save_glom(folder, self, self.facts)

    @classmethod
    def read_file(cls, file: Path, device: torch.device) -> Self:
        """The GLOM of a `file`, on `device`. Raises `InputError` for a file of anything else."""
        network, facts = load_glom(file)
        found = cls(network.config, facts)
        found.load_state_dict(network.state_dict())
        return found.eval().requires_grad_(False).to(device)
