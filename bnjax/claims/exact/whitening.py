"""Whether batch norm whitens, that is, takes correlations away."""

from typing import Any

import numpy as np

from bnjax.claims.exact.reference import batch_norm, in_float64, largest
from bnjax.claims.finding import Finding, require


@in_float64
def correlations() -> Finding:
    """Correlations of features that were mixed, before and after batch norm."""
    rng = np.random.default_rng(0)
    covariance = np.array([[1, 0.9, 0.3], [0.9, 1, 0.2], [0.3, 0.2, 1]])
    x = rng.normal(size=(4000, 3)) @ np.linalg.cholesky(covariance).T
    x = x * [0.5, 1, 4] + [1, -2, 3]
    before, after = (np.corrcoef(v.T) for v in (x, batch_norm(x)[0]))
    moved = largest(after - before)
    require(moved < 1e-6, f'correlations stay as they were, moved by {moved:.1g}')
    whitened = largest(_off_diagonal(_whitened(x)))
    require(whitened < 1e-6, f'whitening takes them away, found {whitened:.1g}')
    left = largest(_off_diagonal(after))
    return Finding(
        left <= 0.1,
        f'largest correlation {largest(_off_diagonal(before)):.4f} before, {left:.4f} '
        f'after batch norm, {whitened:.1g} after whitening',
    )


def _off_diagonal(correlation: Any) -> np.ndarray:
    return correlation - np.diag(np.diag(correlation))


def _whitened(x: np.ndarray) -> Any:
    """Correlations of ``x`` after whitening by the principal axes."""
    centred = x - x.mean(0)
    values, axes = np.linalg.eigh(np.cov(centred.T))
    return np.corrcoef((centred @ axes / np.sqrt(values)).T)
