"""Pearson's chi-square, exactly: no approximation, no dependency."""

from __future__ import annotations

import math

ONE_IN_A_MILLION = 1e-6


def survival(x: float, df: int) -> float:
    """Return the probability that a chi-square variable with ``df`` degrees of freedom exceeds ``x``."""
    if x <= 0:
        return 1.0
    half = x / 2
    odd = df % 2
    offset = 0.5 if odd else 0.0
    terms = (
        math.exp(-half + (i + offset) * math.log(half) - math.lgamma(i + offset + 1)) for i in range(df // 2)
    )
    return (math.erfc(math.sqrt(half)) if odd else 0.0) + math.fsum(terms)


def uniform(counts) -> float:
    """Return the p-value of ``counts`` under the assumption that every cell is equally likely."""
    counts = list(counts)
    expected = sum(counts) / len(counts)
    return survival(sum((count - expected) ** 2 / expected for count in counts), len(counts) - 1)


def alike(one, two) -> float:
    """Return the p-value of two lists of counts under the assumption of one common distribution."""
    a, b = math.sqrt(sum(two) / sum(one)), math.sqrt(sum(one) / sum(two))
    cells = [(x, y) for x, y in zip(one, two, strict=True) if x + y]
    return survival(sum((a * x - b * y) ** 2 / (x + y) for x, y in cells), len(cells) - 1)
