"""The data of the demonstrations, and the measure of how well anomalies are told from normal records."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError

SENSORS = tuple(f"f{i}" for i in range(1, 10))
LABEL = "anomaly"
RECORDINGS = ("french", "italian", "russian", "music")
"""Four recordings of 20 s at 16 kHz that ship with the package; `data/recordings/ATTRIBUTION.md` says whose."""
MIXING = np.array([[0.9, -0.6, 0.5, 0.7], [-0.5, 0.8, 0.7, -0.4], [0.6, 0.7, -0.9, 0.5], [0.4, 0.5, 0.6, 0.9]])
"""What each of four microphones (rows) hears of each recording; its condition number is 6.7."""
MOVED = np.array([[0.9, 0.7, -0.4, 0.5], [0.8, -0.3, 0.6, 0.7], [0.5, 0.9, 0.7, 0.8], [0.3, 0.6, 0.8, -0.5]])
"""The same after all of them have moved."""


def shuttle_path() -> Path:
    """Return the Statlog Shuttle file that comes with river; raises `InputError` if it is not there."""
    # Importing river.datasets takes seconds; where the file lies is known without.
    spec = find_spec("river")
    path = Path(spec.origin).parent / "datasets" / "shuttle.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputError("the demo's data comes with river 0.26 or 0.27; install it: pip install 'river>=0.26,<0.28'")
    return path


def recordings() -> FloatArray:
    """Return the four recordings (n, 4), each of unit variance; raises `InputError` without the package soundfile."""
    from stream_em.streams.files import open_source

    folder = Path(__file__).parent / "data" / "recordings"
    found = [
        np.concatenate([block.values[:, 0] for block in open_source(folder / f"{name}.flac")]) for name in RECORDINGS
    ]
    signals = np.stack(found, axis=1)
    return np.asarray(signals / signals.std(axis=0))


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
