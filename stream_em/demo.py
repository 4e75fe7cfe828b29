"""The data of the demonstration, and the measure of how well anomalies are told from normal records."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError

SENSORS = tuple(f"f{i}" for i in range(1, 10))
LABEL = "anomaly"


def shuttle_path() -> Path:
    """Return the Statlog Shuttle file that comes with river; raises `InputError` if it is not there."""
    # Importing river.datasets takes seconds; where the file lies is known without.
    spec = find_spec("river")
    path = Path(spec.origin).parent / "datasets" / "shuttle.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputError("the demo's data comes with river 0.26 or 0.27; install it: pip install 'river>=0.26,<0.28'")
    return path


def roc_auc(scores: FloatArray, labels: Any) -> float:
    """Return the probability that a positive record scores higher than a negative one; a tie counts half.

    NaN if there are no positive or no negative records.

    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), [0, 0, 1, 1])
    0.875
    """
    positive = np.asarray(labels, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, value, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[value]
    wins = ranks[positive].sum() - n_positive * (n_positive + 1) / 2.0
    return float(wins / (n_positive * n_negative))
