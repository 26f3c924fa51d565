"""Tests with stated error rates; every sentence that compares, on any page, rests on one of them.

    intervals.py      a mean over runs or over images, and its interval
    comparisons.py    two groups of runs, whose spreads and numbers may differ
    families.py       several comparisons on one page: Holm, Benjamini-Hochberg, "the best of them"
    paired.py         the same images under two conditions, many comparisons at once
    permutation.py    whether groups of networks lie further apart than chance puts them

docs/statistics.md explains the choice in words; bench/claims.py measures the error rates of the page.
"""

LEVEL = 0.05
"""The error rate of a page for each kind of sentence."""
