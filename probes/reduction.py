"""Feature grids reduced to three dimensions and put on the RGB cube: t-SNE, UMAP or PCA, seeded and cached.

The fast t-SNE is van der Maaten & Hinton's (2008) objective with the affinities kept to nearest neighbours (as in van
der Maaten 2014) and the repulsion estimated in every step from a fresh random sample of landmark points instead of a
tree: an unbiased estimate of the same sums, and in three dimensions, where a Barnes-Hut octree prunes little, several
times faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glom.colours import rgb_cube
from glom.errors import InputError, RunError, unknown
from glom.runs.files import replacing, user_cache
from probes.agreement import cosine_to

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]

METHODS = ("tsne", "umap", "pca")
PERPLEXITY = 30.0
EXAGGERATION, EARLY, LATE = 12.0, 100, 250
LANDMARKS = 256
NEIGHBOURS = 1.5  # of the perplexity; three times is usual, and half of that loses nothing measurable here
CACHE_FORMAT = 1


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
    x = points.astype(np.float64)
    x = x - x.mean(0)
    scale = float(np.abs(x).max(initial=0.0))
    if scale <= 1e-6 * max(1.0, float(np.abs(points).max(initial=0.0))) or len(x) < 4:
        return np.zeros((len(x), 3), np.float32)
    x = _principal(x / scale, min(50, x.shape[1]))
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
    p's part over the neighbours, q's and Z over `LANDMARKS` points drawn anew in each step; e is the early
    exaggeration. Momentum and gains as in van der Maaten & Hinton (2008), section 3.4; start at the principal
    components and learning rate n / e / 4 as in Kobak & Berens (2019).
    """
    from scipy.sparse import csr_matrix

    n = len(points)
    rng = np.random.default_rng(seed)
    p = affinities(points, perplexity)
    rows, columns, starts = np.repeat(np.arange(n), np.diff(p.indptr)), p.indices, p.indptr
    values = p.data.astype(np.float32)
    y = _three(points)
    y = (y / max(float(y.std(0).max()), 1e-12) * 1e-4).astype(np.float32)
    step, gains = np.zeros_like(y), np.ones_like(y)
    rate, sample = max(n / EXAGGERATION / 4, 50.0), min(LANDMARKS, n)
    z = 0.0
    for iteration in range(EARLY + LATE):
        e, momentum = (EXAGGERATION, 0.5) if iteration < EARLY else (1.0, 0.8)
        apart = y[rows] - y[columns]
        weights = values / (1 + np.einsum("ij,ij->i", apart, apart))
        near = csr_matrix((weights, columns, starts), shape=(n, n))
        attraction = np.asarray(near.sum(1), dtype=np.float32) * y - near @ y
        landmarks = y[rng.choice(n, sample, replace=False)]
        squared = (y**2).sum(1)[:, None] + (landmarks**2).sum(1) - 2 * y @ landmarks.T
        w = 1 / (1 + np.maximum(squared, 0))
        now = float(w.sum() - sample) * n / sample
        z = now if not iteration else 0.9 * z + 0.1 * now
        w *= w
        repulsion = (w.sum(1)[:, None] * y - w @ landmarks) * (n / sample)
        gradient = 4 * (e * attraction - repulsion / max(z, 1e-12))
        gains = np.where(step * gradient < 0, gains + 0.2, gains * 0.8).clip(0.01)
        step = (momentum * step - rate * gains * gradient).astype(np.float32)
        y = y + step
    return (y - y.mean(0)).astype(np.float32)


def affinities(points: NDArray[np.float64], perplexity: float):  # type: ignore[no-untyped-def]
    """Symmetric t-SNE affinities over `NEIGHBOURS` x perplexity neighbours, a CSR matrix (n, n) that sums to 1.

    Each row's Gaussian has the entropy log(perplexity) (van der Maaten & Hinton 2008, equations 1 and section 2).
    """
    from scipy.sparse import csr_matrix
    from sklearn.neighbors import NearestNeighbors

    n = len(points)
    k = min(n - 1, int(NEIGHBOURS * perplexity))
    distance, neighbour = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)
    d = distance[:, 1:] ** 2
    d = d - d[:, :1]
    low, high = np.zeros(n), np.full(n, np.inf)
    beta = 1 / np.maximum(d.mean(1), 1e-12)
    for _ in range(50):
        p = np.exp(-d * beta[:, None])
        total = p.sum(1)
        wide = np.log(total) + beta * (d * p).sum(1) / total > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        # Where all distances are equal no width changes the entropy: keep beta finite.
        beta = np.minimum(np.where(np.isinf(high), beta * 2, (low + high) / 2), 1e12)
    p = np.exp(-d * beta[:, None])
    p /= p.sum(1, keepdims=True)
    one_way = csr_matrix((p.ravel(), neighbour[:, 1:].ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    both = (one_way + one_way.T).tocsr()
    both.sort_indices()
    return both / both.sum()


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
    digest = hashlib.sha256(repr((CACHE_FORMAT, EARLY, LATE, LANDMARKS, NEIGHBOURS, options, points.shape)).encode())
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


def _principal(x: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Centred (n, F) -> its first principal components (n, count), signs fixed by the largest weight."""
    _, vectors = np.linalg.eigh(x.T @ x)
    basis = vectors[:, ::-1][:, :count]
    basis = basis * np.where(basis[np.abs(basis).argmax(0), range(basis.shape[1])] < 0, -1, 1)
    return x @ basis


def _three(x: NDArray[np.float64]) -> Array:
    """The first three columns, zeros where there are fewer."""
    out = np.zeros((len(x), 3), np.float32)
    out[:, : x.shape[1]] = x[:, :3]
    return out
