"""Feature grids reduced to three dimensions and put on the RGB cube: t-SNE, UMAP or PCA, seeded and cached.

The fast t-SNE is van der Maaten & Hinton's (2008) objective with the affinities kept to nearest neighbours (as in van
der Maaten 2014) and the repulsion estimated in every step from a fresh random sample of landmark points instead of a
tree: an unbiased estimate of the same sums, and in three dimensions, where a Barnes-Hut octree prunes little, many
times faster. It begins at the principal components and ends when the embedding no longer moves.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glom.colours import rgb_cube
from glom.errors import InputError, RunError, unknown
from glom.runs.files import replacing, user_cache
from probes.agreement import cosine_to

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]

METHODS = ("tsne", "umap", "pca")
PERPLEXITY = 15.0
EXAGGERATION, EARLY, LATE = 12.0, 20, 80
LANDMARKS, WORK = 64, 64_000  # landmarks at least; more where n of them are fewer pairs than this
RATE = 16.0  # learning rate n / RATE
STILL, LOOK = 0.05, 25  # ends when it moves by less than this share of its size in so many steps
NEIGHBOURS = 1.5  # of the perplexity; three times is usual, and half of that loses nothing measurable here
CACHE_FORMAT = 2  # of what is kept; the embedding of another format is never read


def reduce_rgb(
    grids: Sequence[Array],
    method: str = "tsne",
    joint: bool = False,
    seed: int = 0,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    exact: bool = False,
    perplexity: float = PERPLEXITY,
) -> list[Array]:
    """Colour each grid by a three-dimensional embedding of its features.

    Args:
        grids: (h, w, F) each.
        method: "tsne", "umap" (McInnes et al. 2018; extra `umap`) or "pca".
        joint: one embedding for all grids together, so that the same colour means the same thing in each; they must
            then have equal widths (`relative` makes layers comparable that have not).
        seed: of the embedding.
        cache_dir: where embeddings are kept by the content of what they were computed from; None keeps nothing.
        progress: called with (grids done, grids in all).
        exact: scikit-learn's t-SNE on all points instead of the fast one.
        perplexity: of t-SNE, lowered where there are too few points for it; UMAP's number of neighbours is half of it.

    Returns:
        (h, w, 3) float32 in [0, 1] for each grid; mid-grey where nothing varies.

    Raises:
        InputError: an unknown method, joint grids of different widths, features not finite, UMAP not installed.
    """
    if method not in METHODS:
        raise unknown("reduction", method, METHODS)
    if not 1 < perplexity < float("inf"):
        raise InputError(f"the perplexity must be above 1, got {perplexity}")
    for grid in grids:
        if grid.ndim != 3 or not np.isfinite(grid).all():
            raise InputError(f"a grid to reduce is (h, w, F) and finite, got {grid.shape}")
    if joint and len({g.shape[-1] for g in grids}) > 1:
        raise InputError(f"one embedding needs grids of one width, got {sorted({g.shape[-1] for g in grids})}")
    groups = [list(grids)] if joint and grids else [[g] for g in grids]
    options = (method, seed, exact, perplexity)
    coloured: list[Array] = []
    for group in groups:
        flat = np.concatenate([g.reshape(-1, g.shape[-1]) for g in group]).astype(np.float32)
        colours, start = rgb_cube(_cached(flat, options, cache_dir)), 0
        for grid in group:
            h, w = grid.shape[:2]
            coloured.append(colours[start : start + h * w].reshape(h, w, 3))
            start += h * w
        if progress is not None:
            progress(len(coloured), len(grids))
    return coloured


def relative(grids: Sequence[Array], anchors: int = 64) -> list[Array]:
    """Layers of different widths made comparable: each location by its cosines with the same anchor locations.

    "Relative representations" (Moschella et al. 2023, section 3). Cosines are centred and scaled grid by grid.

    Args:
        grids: (h, w, F) each, sizes and widths as they come, all over the same picture.
        anchors: at most this many locations, on a regular lattice in the picture's coordinates.

    Returns:
        (h, w, anchors) float32 each.
    """
    side = max(1, int(anchors**0.5))
    result = []
    for grid in grids:
        h, w = grid.shape[:2]
        rows = ((np.arange(side) + 0.5) * h / side).astype(int)
        columns = ((np.arange(side) + 0.5) * w / side).astype(int)
        chosen = grid[rows][:, columns].reshape(-1, grid.shape[-1])
        cosines = cosine_to(grid, chosen)
        result.append(((cosines - cosines.mean()) / max(float(cosines.std()), 1e-6)).astype(np.float32))
    return result


def embed(points: Array, method: str, seed: int = 0, exact: bool = False, perplexity: float = PERPLEXITY) -> Array:
    """(n, F) points -> (n, 3) float32; zeros where all points are one.

    Raises:
        InputError: UMAP is not installed.
    """
    x = principal(points)
    if x is None or len(x) < 4:
        return np.zeros((len(points), 3), np.float32)
    if method == "pca":
        return _three(x)
    # A point has at most n - 1 neighbours; at least 1.5 times the perplexity of them are wanted.
    perplexity = min(perplexity, (len(x) - 1) / 3)
    if perplexity <= 1:
        return _three(x)
    if method == "umap":
        return _umap(x, seed, max(2, round(perplexity / 2)))
    return exact_tsne(x, seed, perplexity) if exact else fast_tsne(x, seed, perplexity)


def exact_tsne(points: NDArray[np.float64], seed: int = 0, perplexity: float = PERPLEXITY) -> Array:
    """scikit-learn's Barnes-Hut t-SNE, (n, F) -> (n, 3)."""
    from sklearn.manifold import TSNE

    model = TSNE(3, perplexity=perplexity, init=_three(points) * 1e-4, random_state=seed, learning_rate="auto")
    return model.fit_transform(points.astype(np.float32)).astype(np.float32)


def fast_tsne(points: NDArray[np.float64], seed: int = 0, perplexity: float = PERPLEXITY) -> Array:
    """t-SNE in three dimensions with sampled repulsion, (n, F) -> (n, 3); see the module's text.

    The gradient is  4 Σ_j (e p_ij − q_ij) w_ij (y_i − y_j),  w_ij = 1 / (1 + |y_i − y_j|²),  q_ij = w_ij / Z:
    p's part over the neighbours, q's and Z over at least `LANDMARKS` points drawn anew in each step; e is the early
    exaggeration. Momentum and gains as in van der Maaten & Hinton (2008), section 3.4; the start as in Kobak & Berens
    (2019), scaled principal components.
    """
    n = len(points)
    rng = np.random.default_rng(seed)
    pull = _Attraction(affinities(points, perplexity))
    y = _three(points)
    y = (y / max(float(y.std(0).max()), 1e-12) * 1e-4).astype(np.float32)
    step, gains, before = np.zeros_like(y), np.ones_like(y), y
    rate, sample = max(n / RATE, 50.0), min(max(LANDMARKS, WORK // n), n)
    z = 0.0
    for iteration in range(EARLY + LATE):
        e, momentum = (EXAGGERATION, 0.5) if iteration < EARLY else (1.0, 0.8)
        landmarks = y[rng.choice(n, sample, replace=False)]
        w = y @ (-2 * landmarks.T)
        w += (y * y).sum(1)[:, None] + 1
        w += (landmarks * landmarks).sum(1)
        np.reciprocal(np.maximum(w, 1, out=w), out=w)
        now = float(w.sum() - sample) * n / sample
        z = now if not iteration else 0.9 * z + 0.1 * now
        w *= w
        repulsion = (w.sum(1)[:, None] * y - w @ landmarks) * (n / sample)
        gradient = 4 * (e * pull(y) - repulsion / max(z, 1e-12))
        gains = np.where(step * gradient < 0, gains + 0.2, gains * 0.8).clip(0.01)
        step = (momentum * step - rate * gains * gradient).astype(np.float32)
        y = y + step
        if iteration >= EARLY and iteration % LOOK == LOOK - 1:
            if ((y - before) ** 2).sum() < STILL**2 * ((y - y.mean(0)) ** 2).sum():
                break
            before = y
    return (y - y.mean(0)).astype(np.float32)


class _Attraction:
    """Σ_j p_ij w_ij (y_i − y_j) of (n, 3) points; p symmetric and sparse, so that each pair is measured once."""

    def __init__(self, p: csr_matrix) -> None:
        rows = np.repeat(np.arange(p.shape[0], dtype=np.int32), np.diff(p.indptr))
        upper = rows < p.indices
        self.first, self.second, self.values = rows[upper], p.indices[upper], p.data[upper].astype(np.float32)
        # Where each entry of the matrix finds the weight of its pair: sorted by column, the pairs are the lower half.
        self.pair = np.empty(len(rows), np.int64)
        self.pair[upper] = np.arange(len(self.first))
        self.pair[~upper] = np.lexsort((self.first, self.second))
        self.near = p.astype(np.float32)

    def __call__(self, y: Array) -> Array:
        squared = np.ones(len(self.first), np.float32)
        for axis in range(3):
            column = np.ascontiguousarray(y[:, axis])
            apart = column.take(self.first)
            apart -= column.take(self.second)
            squared += apart * apart
        self.near.data = (self.values / squared).take(self.pair)
        return np.asarray(self.near.sum(1), dtype=np.float32) * y - self.near @ y


def affinities(points: NDArray[np.float64], perplexity: float) -> csr_matrix:
    """Symmetric t-SNE affinities over `NEIGHBOURS` x perplexity neighbours, a CSR matrix (n, n) that sums to 1.

    Each row's Gaussian has the entropy log(perplexity) (van der Maaten & Hinton 2008, equations 1 and section 2).
    """
    from scipy.sparse import csr_matrix

    n = len(points)
    k = min(n - 1, int(NEIGHBOURS * perplexity))
    neighbour, d = nearest(points, k)
    d = d - d.min(1, keepdims=True)
    low, high = np.zeros(n), np.full(n, np.inf)
    beta = 1 / np.maximum(d.mean(1), 1e-12)
    for _ in range(30):
        p = np.exp(-d * beta[:, None])
        total = p.sum(1)
        wide = np.log(total) + beta * (d * p).sum(1) / total > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        # Where all distances are equal no width changes the entropy: keep beta finite.
        beta = np.minimum(np.where(np.isinf(high), beta * 2, (low + high) / 2), 1e12)
    p = np.exp(-d * beta[:, None])
    p /= p.sum(1, keepdims=True)
    one_way = csr_matrix((p.ravel(), neighbour.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    both = (one_way + one_way.T).tocsr()
    both.sort_indices()
    return both / both.sum()


def nearest(points: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest other points of each of (n, F), and their squared distances, (n, k) both.

    They are found by products in single precision, a thousand points at a time, and measured in double.
    """
    import torch

    x = torch.from_numpy(points.astype(np.float32))
    squares, found = x.square().sum(1), []
    for start in range(0, len(x), 1024):
        rows = x[start : start + 1024]
        apart = torch.addmm(squares[None].expand(len(rows), -1), rows, x.T, alpha=-2)
        apart[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = torch.inf
        found.append(apart.topk(k, largest=False).indices)
    neighbour = torch.cat(found).numpy()
    distance = np.stack([((points[neighbour[:, j]] - points) ** 2).sum(1) for j in range(k)], 1)
    return neighbour, distance


def trustworthiness(points: Array, embedding: Array, k: int = 12) -> float:
    """Share of embedded neighbourhoods that are neighbourhoods in feature space too, in [0, 1] (Venna & Kaski 2001).

    Args:
        points: (n, F), embedding: (n, 3), k: neighbours looked at; k < n / 2.
    """
    from sklearn.manifold import trustworthiness as measure

    if not 0 < k < len(points) / 2:
        raise InputError(f"trustworthiness needs 0 < k < n / 2, got k = {k} for {len(points)} points")
    return float(measure(points, embedding, n_neighbors=k))


def default_cache() -> Path:
    """`glom-apm/islands` in the user's cache folder (`XDG_CACHE_HOME`, else ~/.cache)."""
    return user_cache("islands")


def _cached(points: Array, options: tuple[object, ...], cache_dir: Path | None) -> Array:
    method, seed, exact, perplexity = options
    assert isinstance(method, str) and isinstance(seed, int) and isinstance(perplexity, float | int)

    def compute() -> Array:
        return embed(points, method, seed, bool(exact), perplexity)

    if cache_dir is None or method == "pca":
        return compute()
    recipe = (CACHE_FORMAT, EARLY, LATE, LANDMARKS, WORK, NEIGHBOURS, RATE, STILL, LOOK, options, points.shape)
    digest = hashlib.sha256(repr(recipe).encode())
    digest.update(np.ascontiguousarray(points).data)
    path = cache_dir / f"{digest.hexdigest()[:40]}.npz"
    # Whatever is wrong with an entry, computing it again is right.
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(path) as entry:
        kept = entry["embedding"]
        if kept.shape == (len(points), 3) and np.isfinite(kept).all():
            return kept.astype(np.float32)
    result = compute()
    # A cache that cannot be written costs time, nothing else.
    with contextlib.suppress(RunError), replacing(path) as file:
        np.savez(file, embedding=result)
    return result


@contextmanager
def _own_threads() -> Iterator[None]:
    """Numba, by which UMAP runs, sets the number of threads of the OpenMP that torch uses too: it is put back."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_own_threads()
def _umap(x: NDArray[np.float64], seed: int, neighbours: int) -> Array:
    import warnings

    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError("`reduce` umap needs the package umap-learn: pip install 'glom-apm[umap]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, which is wanted
        model = UMAP(n_components=3, n_neighbors=neighbours, random_state=seed, init="pca")
        return np.asarray(model.fit_transform(x), dtype=np.float32)


def principal(points: Array, count: int = 50) -> NDArray[np.float64] | None:
    """(n, F) -> its first principal components (n, at most `count`), of the greatest coordinate's size, signs fixed by
    the largest weight; None where nothing varies."""
    x = points.astype(np.float64)
    x = x - x.mean(0)
    scale = float(np.abs(x).max(initial=0.0))
    if scale <= 1e-6 * max(1.0, float(np.abs(points).max(initial=0.0))):
        return None
    x = x / scale
    _, vectors = np.linalg.eigh(x.T @ x)
    basis = vectors[:, ::-1][:, :count]
    basis = basis * np.where(basis[np.abs(basis).argmax(0), range(basis.shape[1])] < 0, -1, 1)
    return x @ basis


def _three(x: NDArray[np.float64]) -> Array:
    """The first three columns, zeros where there are fewer."""
    out = np.zeros((len(x), 3), np.float32)
    out[:, : x.shape[1]] = x[:, :3]
    return out
