"""Hinton's GLOM on pictures: a grid of columns, each a stack of levels, that see patches and say them.

The update is `glom.consensus.columns`'. A still picture is a boring video: the same frame seen T times.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from glom.consensus.columns import Columns, LevelNets, Places
from glom.consensus.config import GlomConfig
from glom.errors import InputError


class Glom(Columns):
    """The network; see the module's text. Shapes: B pictures, n columns, L levels, width d.

    Args:
        config: its settings.

    Example:
        >>> glom = Glom(GlomConfig(levels=3, dim=16, hidden=32))
        >>> glom(torch.rand(1, 3, 16, 24)).shape
        torch.Size([1, 24, 3, 16])
    """

    def __init__(self, config: GlomConfig) -> None:
        c = config
        super().__init__(c, nn.Conv2d(4, c.dim, c.patch + 2 * c.margin, stride=c.patch, padding=c.margin))
        self.paint = LevelNets(1, c.dim, c.hidden, 3 * c.patch**2, c.code)

    # -- what the columns see ------------------------------------------------------------------------------------------

    def see(self, images: Tensor, missing: Tensor | None = None) -> Tensor:
        """x_0 of every column, row by row.

        Args:
            images: (B, 3, H, W) in [0, 1], both sides multiples of the patch.
            missing: (B, 1, H, W) booleans, pixels that are not to be seen; None for none.

        Returns:
            (B, n, d), n = (H / patch) (W / patch).

        Raises:
            InputError: another shape, or a picture smaller than a patch.
        """
        h, w = self.grid(images)
        x = (images - 0.5) * 4  # pixels of ordinary pictures then have a deviation of about one
        if missing is None:
            blank = torch.zeros_like(x[:, :1])
        else:
            blank = missing.to(x.dtype)
            x = x.masked_fill(missing, 0.0)
        seen = rearrange(self.eye(torch.cat([x, blank], 1)), "b d h w -> b (h w) d")
        assert seen.shape[1] == h * w
        return seen

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the grid that covers `images` (B, 3, H, W). Raises `InputError` where none can."""
        patch = self.config.patch
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"pictures must be (B, 3, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if min(height, width) < patch:
            raise InputError(f"{width}x{height} pixels is smaller than one patch of this GLOM ({patch} px)")
        if height % patch or width % patch:
            raise InputError(f"{width}x{height} pixels: both sides must be multiples of the patch ({patch} px)")
        return height // patch, width // patch

    # -- iterations ---------------------------------------------------------------------------------------------

    def all_states(
        self,
        images: Tensor,
        iterations: int | None = None,
        state: Tensor | None = None,
        missing: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Look at still pictures, one iteration at a time.

        Args:
            images: (B, 3, H, W) in [0, 1], any H and W that are multiples of the patch.
            iterations: T; None for the settings'.
            state: (B, n, L, d) to go on from; None to start from nothing.
            missing: see `see`.

        Yields:
            (B, n, L, d), T times.

        Raises:
            InputError: pictures of a wrong shape, a state of another, no iterations.
        """
        count = self.config.iterations if iterations is None else iterations
        if count < 1:
            raise InputError(f"at least one iteration is needed, got {count}")
        seen, places = self.see(images, missing), self.places(self.grid(images))
        steps = self.iterate(seen, places, self._level_first(state, seen))
        for _ in range(count):
            yield next(steps).permute(1, 2, 0, 3)

    def forward(
        self,
        images: Tensor,
        iterations: int | None = None,
        state: Tensor | None = None,
        missing: Tensor | None = None,
    ) -> Tensor:
        """The last of `all_states`, of the same `images`, `iterations`, `state` and `missing`: (B, n, L, d)."""
        *_, last = self.all_states(images, iterations, state, missing)
        return last

    def watch(self, frames: Tensor, state: Tensor | None = None) -> Iterator[Tensor]:
        """Look at a video, one update a frame, the state carried over time.

        Args:
            frames: (B, T, 3, H, W) in [0, 1].
            state: (B, n, L, d) from earlier frames.

        Yields:
            (B, n, L, d) after every frame. A still picture repeated T times gives what `all_states` gives.

        Raises:
            InputError: no such video, or frames that no grid covers.
        """
        if frames.ndim != 5 or not frames.shape[1]:
            raise InputError(f"a video must be (B, T, 3, H, W) with T >= 1, got {tuple(frames.shape)}")
        places = self.places(self.grid(frames[:, 0]))
        now: Tensor | None = None
        for frame in frames.unbind(1):
            seen = self.see(frame)
            now = self._level_first(state, seen) if now is None else now
            now = next(self.iterate(seen, places, now))
            yield now.permute(1, 2, 0, 3)

    def _level_first(self, state: Tensor | None, seen: Tensor) -> Tensor | None:
        if state is None:
            return None
        b, n, d = seen.shape
        if state.shape != (b, n, self.config.levels, d):
            raise InputError(f"a state must be {(b, n, self.config.levels, d)}, got {tuple(state.shape)}")
        return state.permute(2, 0, 1, 3)

    # -- back to pixels -----------------------------------------------------------------------------------------

    def decode(self, state: Tensor, places: Places) -> Tensor:
        """What each level says the picture is, by the top-down nets alone: level l -> l-1 -> ... -> 1 -> pixels.

        Args:
            state: (L, B, n, d), level first.
            places: of a regular grid.

        Returns:
            (L, B, 3, H, W) around [0, 1].
        """
        levels, patch = self.config.levels, self.config.patch
        chains = state[-1:]
        for group in reversed(range(levels - 1)):
            x = self.down.one(group, chains.flatten(0, 1), places.bias[group])
            chains = torch.cat([state[group : group + 1], x.unflatten(0, chains.shape[:2]).to(state.dtype)])
        pixels = self.paint.one(0, chains.flatten(0, 1), self.paint.bias(self.code(places.queries))[0])
        h, w = places.cells
        pictures = rearrange(pixels, "b (h w) (c p q) -> b c (h p) (w q)", h=h, w=w, p=patch, q=patch)
        # chains holds level 1 first and the top level last.
        return (pictures.float() / 4 + 0.5).unflatten(0, chains.shape[:2])
