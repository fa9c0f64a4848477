"""Pairs are counted as a dict of tuples would count them."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from datasetkit.dataset import pair_counts
from datasetkit.dataset.pair_counts import PairCounts


@pytest.mark.parametrize("cells", [0, 1 << 20])
@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_pairs_are_counted(cells, at_once, monkeypatch):
    monkeypatch.setattr(pair_counts, "_MOST_CELLS", cells)
    monkeypatch.setattr(pair_counts, "_AT_ONCE", at_once)
    choose = random.Random(0)
    sets = [sorted(choose.sample(range(40), choose.randrange(8))) for _ in range(200)]
    counts = PairCounts(40)
    for codes in sets:
        counts.add(np.array(codes, np.int64))
    expected = Counter(a * 40 + b for codes in sets for a, b in combinations(codes, 2))
    assert list(counts.repeated()) == sorted((p, n) for p, n in expected.items() if n > 1)


def test_no_set_has_no_pairs():
    assert list(PairCounts(0).repeated()) == []
