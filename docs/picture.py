"""Draw the picture of the README: a mixture that follows moving clusters, record by record. Run: make picture"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

import stream_em as sem

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Ellipse

STOPS = (1_000, 20_000, 40_000)
SPREADS = np.array([[[1.0, 0.6], [0.6, 0.8]], [[0.5, -0.2], [-0.2, 1.2]], [[1.2, 0.0], [0.0, 0.3]]])


def moving_clusters(rng, n):
    """Return n records (n, 2) of three clusters that turn once around the origin, by a third, during the stream."""
    labels = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    angles = 2 * np.pi * (labels + np.arange(n) / n) / 3
    centres = 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return centres + np.einsum("nij,nj->ni", np.linalg.cholesky(SPREADS)[labels], rng.normal(size=(n, 2)))


def draw(axes, records, params, title):
    """Draw the latest records and the 90 % ellipse of each component."""
    axes.plot(*records.T, ".", markersize=2, color="#9aa5b1")
    for weight, mean, covariance in zip(*params, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        width, height = 2 * np.sqrt(4.605 * values)
        angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
        style = {"fill": False, "edgecolor": "#c2410c", "linewidth": 0.8 + 3 * weight}
        axes.add_patch(Ellipse(mean, width, height, angle=angle, **style))
    axes.set(title=title, xlim=(-9, 9), ylim=(-9, 9), aspect="equal", xticks=[], yticks=[])


def main():
    """Learn the stream and write the picture beside this file."""
    mpl.rcParams["svg.hashsalt"] = "stream_em"
    records = moving_clusters(np.random.default_rng(0), STOPS[-1])
    learner = sem.Learner(sem.GaussianMixture(n_components=3), stepsize=sem.Stepsize.constant(half_life=500))
    figure, panels = plt.subplots(1, len(STOPS), figsize=(9, 3.2), layout="constrained")
    begin = 0
    for axes, end in zip(panels, STOPS, strict=True):
        learner.learn(records[begin:end])
        draw(axes, records[max(0, end - 400) : end], learner.params, f"after {end:,} records")
        begin = end
    figure.savefig(Path(__file__).with_name("online-em.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
