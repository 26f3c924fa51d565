"""Paired comparisons: the same images under two conditions, many comparisons at once."""

from typing import Literal

import numpy as np

RESAMPLES = 9999

# So many random signs are held at a time.
_BLOCK = 4_000_000


def sign_flip_test(
    differences: np.ndarray,
    alternative: Literal["two-sided", "greater"] = "two-sided",
    seed: int = 0,
) -> np.ndarray:
    """The paired permutation test of the mean (Fisher, 1935), for several comparisons at once.

    If two conditions are exchangeable in every image, each image's difference is as likely with
    the other sign: p is the share of 9,999 random assignments of signs (and the observed one) with
    a mean at least as extreme, so never 0 (Phipson and Smyth, 2010). All comparisons share the
    signs. What is `scipy.stats.permutation_test(permutation_type="samples")` for one column is a
    matrix product for all of them.

    Args:
        differences: (n, K) of n images in K comparisons; NaN where a pair is undefined, which
            leaves that image out of that comparison.
        alternative: "greater" if the mean is above 0.
        seed: of the signs.

    Returns:
        (K,) p-values in 0.0001..1; 1 where no difference is left.
    """
    values = np.nan_to_num(np.asarray(differences, dtype=np.float64), nan=0.0)
    count, comparisons = values.shape
    observed = values.sum(axis=0)
    # Equal sums may differ by rounding, as the order of their terms does.
    tolerance = 1e-9 * np.abs(values).sum(axis=0)
    extreme = np.ones(comparisons)
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(1, count))
    for start in range(0, RESAMPLES, block):
        size = (min(block, RESAMPLES - start), count)
        signs = 2.0 * random.integers(0, 2, size=size, dtype=np.int8) - 1
        flipped = signs @ values
        if alternative == "two-sided":
            extreme += (np.abs(flipped) >= np.abs(observed) - tolerance).sum(axis=0)
        else:
            extreme += (flipped >= observed - tolerance).sum(axis=0)
    return extreme / (RESAMPLES + 1)
