"""What the formulas of batch norm, on their own, make of numbers."""

import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

import bnjax
from bnjax.claims.exact.reference import (
    NO_EPSILON,
    batch_norm,
    in_float64,
    largest,
    normalize,
    standardised,
)
from bnjax.claims.finding import Finding, require
from bnjax.data import load

EPSILON = 1e-5


@in_float64
def four_steps() -> Finding:
    """Mean, variance, normalisation, scale and shift, in rows and in columns."""
    rng = np.random.default_rng(0)
    errors = {np.dtype(t): 0.0 for t in ('float64', 'float32')}
    for _ in range(100):
        mean, scale, bias = rng.normal(size=(3, 6))
        samples = rng.uniform(0.2, 3, 6) * rng.normal(size=(24, 6)) + mean
        for dtype, worst in errors.items():
            x, gamma, beta = (v.astype(dtype) for v in (samples, scale, bias))
            reference = np.float64(gamma) * standardised(np.float64(x)) + beta
            rows, _ = batch_norm(x, gamma, beta)
            columns, _ = batch_norm(x.T, gamma, beta, axis=0)
            found = [largest(y - reference) for y in (rows, columns.T)]
            errors[dtype] = max(worst, *found)
    exact, single = errors.values()
    return Finding(
        exact <= 1e-12 and single <= 1e-5,
        f'largest error over 100 arrays, samples in rows and in columns: {exact:.1g} '
        f'in float64, {single:.1g} in float32',
    )


@in_float64
def zero_mean_and_unit_variance() -> Finding:
    """Less the mean, divided by the deviation: mean 0 and variance 1, by algebra."""
    rng = np.random.default_rng(0)
    means, variances = [], []
    for _ in range(100):
        sd, mean = rng.uniform(0.1, 3, 5), rng.normal(size=5)
        y, _ = batch_norm(sd * rng.normal(size=(50, 5)) + mean, epsilon=NO_EPSILON)
        means.append(y.mean(0))
        variances.append(y.var(0))
    constant, _ = batch_norm(np.full((50, 5), 3.0), epsilon=NO_EPSILON)
    require(largest(constant) == 0, f'a constant becomes 0, found {constant[0]}')
    require(_is_refused(0.0), 'epsilon = 0 is refused')
    off = largest(np.stack(means)), largest(np.stack(variances) - 1)
    return Finding(
        max(off) <= 1e-12,
        f'without epsilon: |mean| <= {off[0]:.1g}, |variance - 1| <= {off[1]:.1g}; '
        'a constant feature becomes 0',
    )


def _is_refused(epsilon: float) -> bool:
    try:
        bnjax.batch_norm(jnp.ones((2, 1)), epsilon=epsilon)
    except ValueError:
        return True
    return False


@in_float64
def any_distribution() -> Finding:
    """Two moments become those of N(0, 1), the shape stays as it was."""
    rng = np.random.default_rng(0)
    n = 20_000
    laws = {
        'normal': rng.normal(3, 2, n),
        'uniform': rng.uniform(-1, 5, n),
        'exponential': rng.exponential(2, n),
        'Bernoulli': rng.binomial(1, 0.5, n).astype(float),
    }
    y, batch = batch_norm(np.stack([*laws.values()], 1), epsilon=1e-12)
    moments = max(largest(y.mean(0)), largest(y.var(0) - 1))
    before = [
        _distance_to_normal((x - mean) / np.sqrt(var))
        for x, mean, var in zip(laws.values(), batch.mean, batch.var, strict=True)
    ]
    after = [_distance_to_normal(column) for column in y.T]
    moved = max(abs(a - b) for a, b in zip(after, before, strict=True))
    require(moved < 1e-9, f'the shape is unchanged, its distance moved by {moved:.1g}')
    distances = ', '.join(f'{k} {d:.3f}' for k, d in zip(laws, after, strict=True))
    return Finding(
        moments < 1e-9 and after[0] < 0.02,
        f'mean 0 and variance 1 to {moments:.1g} for every law; '
        f'Kolmogorov-Smirnov distance to N(0, 1) as before: {distances}',
    )


def _distance_to_normal(values: np.ndarray) -> float:
    """Kolmogorov and Smirnov's: the largest difference of distribution functions."""
    steps = np.arange(len(values) + 1) / len(values)
    normal = ndtr(np.sort(values))
    return float(max((steps[1:] - normal).max(), (normal - steps[:-1]).max()))


@in_float64
def without_epsilon() -> Finding:
    """The formula with epsilon beside the one without, over deviations."""
    shape = standardised(np.random.default_rng(0).normal(size=(256, 1)), epsilon=0)
    deviations = np.array([1e-4, 1e-3, 1e-2, 1.0])
    cells: dict[tuple[float, float], float] = {}
    for epsilon in (1e-3, 1e-5, 1e-8, 1e-10):
        y, _ = batch_norm(shape * deviations, epsilon=epsilon)
        expected = deviations / np.sqrt(deviations**2 + epsilon)
        error = largest(y.std(0) - expected)
        require(error < 1e-6, f'deviation s / sqrt(s^2 + epsilon), off by {error:.1g}')
        cells |= {(s, epsilon): sd for s, sd in zip(deviations, y.std(0), strict=True)}
    differ = sum(bool(sd < 0.99) for sd in cells.values())
    return Finding(
        differ == 0,
        f'{differ} of {len(cells)} deviations come out below 0.99; at deviation 0.01 '
        f'and epsilon 0.001: {cells[1e-2, 1e-3]:.4f}',
    )


def relu_cuts_half() -> Finding:
    """The share of a standard normal that relu sets to 0."""
    x = np.random.default_rng(0).normal(3, 2, (1_000_000, 1)).astype('f4')
    shares = {}
    for ratio in (-1, 0, 1):
        y, _ = batch_norm(x, np.ones(1, 'f4'), np.full(1, ratio, 'f4'))
        shares[ratio] = float((y <= 0).mean())
        expected = ndtr(-ratio)
        require(
            abs(shares[ratio] - expected) < 0.002,
            f'with beta / gamma = {ratio} the share of zeros is {expected:.3f}, '
            f'found {shares[ratio]:.4f}',
        )
    return Finding(
        abs(shares[0] - 0.5) < 0.002,
        f'share of zeros {shares[0]:.4f}; {shares[-1]:.4f} and {shares[1]:.4f} with '
        'beta / gamma = -1 and 1',
    )


@in_float64
def input_preprocessing() -> Finding:
    """Batch norm of the input beside the z-score of the data set: digits, 8 x 8."""
    images = load('digits', validation_percent=0).train.x
    pixels = images.reshape(len(images), -1).astype('f8')
    pixels = pixels[:, pixels.std(0) > 0]
    zscore = standardised(pixels, epsilon=0)
    whole, _ = batch_norm(pixels, epsilon=NO_EPSILON)
    error = largest(whole - zscore)

    sizes = 32, 128, 512, 2048
    # A pixel that the smallest batch hardly sees says nothing of how it converges.
    inked = zscore[:, (pixels > 0).mean(0) >= 1 / sizes[0]]
    rng = np.random.default_rng(0)
    apart = [_apart_in_batches(inked, size, rng) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(apart), 1)[0]
    return Finding(
        bool(error <= 1e-5 and -0.6 <= slope <= -0.4),
        f'differs from the z-score by {error:.1g} with all {len(pixels)} images as the '
        f'batch, by {apart[0]:.2f} (root mean square) with 32 and {apart[-1]:.2f} with '
        f'2048; slope {slope:.2f} in the logarithms',
    )


def _apart_in_batches(zscore: np.ndarray, size: int, rng: np.random.Generator) -> float:
    """Root mean square of what ten batches' own statistics change."""
    drawn = zscore[rng.integers(len(zscore), size=(size, 10))]
    # Another batch is another feature.
    y, _ = batch_norm(drawn, axis=(1, 2), epsilon=1e-12)
    return float(np.sqrt(((y - drawn) ** 2).mean()))


@in_float64
def thirty_nine_dimensions() -> Finding:
    """Feature scaling of 39 dimensions, one of them constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 39)) * rng.uniform(0.1, 3, 39) + rng.normal(size=39)
    x[:, 7] = 3
    y, batch = batch_norm(x, epsilon=NO_EPSILON)
    statistics = max(largest(batch.mean - x.mean(0)), largest(batch.var - x.var(0)))
    require(largest(y[:, 7]) == 0, f'a constant dimension becomes 0, found {y[0, 7]}')
    scaled = np.delete(y, 7, axis=1)
    error = max(statistics, largest(scaled.mean(0)), largest(scaled.var(0) - 1))
    return Finding(
        batch.mean.shape == (39,) and error <= 1e-12,
        f'{batch.mean.size} means and variances, then mean 0 and variance 1, to '
        f'{error:.1g}; a constant dimension becomes 0',
    )


@in_float64
def matlab_forward() -> Finding:
    """Both branches of the MATLAB forward pass, with its own names, in NumPy."""
    rng = np.random.default_rng(0)
    a_pre = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 5)) + 2
    gamma, beta, mean_mu = rng.normal(size=(3, 5))
    mean_sigma2 = rng.uniform(0.5, 2, 5)

    norm_factor = gamma / np.sqrt(mean_sigma2 + EPSILON)
    testing = a_pre * norm_factor + (beta - norm_factor * mean_mu)
    mu = a_pre.mean(0)
    norm_factor = gamma / np.sqrt(((a_pre - mu) ** 2).mean(0) + EPSILON)
    training = a_pre * norm_factor + (beta - norm_factor * mu)

    running = bnjax.Moments(*map(jnp.asarray, (mean_mu, mean_sigma2, np.ones(5))))
    library = normalize(a_pre, running, gamma, beta, epsilon=EPSILON)
    errors = (
        largest(batch_norm(a_pre, gamma, beta, epsilon=EPSILON)[0] - training),
        largest(library - testing),
    )
    return Finding(
        max(errors) <= 1e-12,
        f'differs from the library by {errors[0]:.1g} in training, {errors[1]:.1g} '
        'in testing',
    )
