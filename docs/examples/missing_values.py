"""
Sensor data with holes
======================

Sensors fail. A record with a hole is still worth learning: EM takes each missing value as one more hidden variable.
Its conditional mean and covariance, given what the other sensors say, enter the statistics. Nothing is filled in
beforehand, and nothing is thrown away.

Here a fifth of all values is taken out of real sensor records, at random. We learn from what is left and look how
well the holes are filled. The records come with river (Statlog Shuttle, nine sensors of the space shuttle).
"""

import matplotlib.pyplot as plt
import numpy as np

import stream_em as sem
from stream_em.demo import LABEL, SENSORS, roc_auc, shuttle_path
from stream_em.estimators.river import GaussianMixture, Imputer

whole = np.concatenate([block.values for block in sem.open_source(shuttle_path(), fields=SENSORS)])[:10_000]
holes = np.random.default_rng(0).random(whole.shape) < 0.2
records = np.where(holes, np.nan, whole)
print(f"{holes.mean():.1%} of the values are missing; {np.mean(~holes.any(axis=1)):.1%} of the records are whole")

# %%
# Fill, then learn
# ----------------
#
# ``Imputer`` is a transformer of river. A missing value may be ``None``, NaN, or not in the dict at all. Each
# record is filled before it is learned, so the true values are never seen.

imputer = Imputer(GaussianMixture(n_components=3))
filled = np.empty_like(records)
for i, record in enumerate(records.tolist()):
    x = {name: value for name, value in zip(SENSORS, record, strict=True) if value == value}
    filled[i] = [imputer.transform_one(x).get(name, np.nan) for name in SENSORS]
    imputer.learn_one(x)

# %%
# The yardstick is the best single number for a sensor: its median over the whole stream, which looks into the
# future. Errors are medians too, because some sensors have a few broken readings that are thousands of units off,
# and nobody can predict those.

late = slice(2000, None)
medians = np.broadcast_to(np.nanmedian(records, axis=0), whole.shape)


def error(guess):
    """Return the median absolute error of each sensor, over the holes."""
    off = np.where(holes, np.abs(guess - whole), np.nan)
    return np.nanmedian(off[late], axis=0)


for name, ours, theirs in zip(SENSORS, error(filled), error(medians), strict=True):
    print(f"{name}: conditional mean {ours:5.2f}    median of the sensor {theirs:5.2f}")

# %%
# Six of the sensors are nearly sums and differences of each other, and their holes are filled to within the
# rounding of the data. The other three carry little that the others know of. f2 and f4 are 0 nearly always; the
# conditional mean is off by a little, and the median is not. f6 is noise about 0, of which the others know the sign
# at best. The picture shows one of each kind.

figure, panels = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for axes, name in zip(panels, ("f8", "f6"), strict=True):
    j = SENSORS.index(name)
    there = holes[late, j]
    axes.plot(whole[late, j][there], filled[late, j][there], ".", markersize=3, color="#c2410c")
    limits = np.percentile(whole[:, j], [1, 99]) + np.array([-5, 5])
    axes.plot(limits, limits, color="#9aa5b1", linewidth=1)
    axes.set(title=name, xlabel="true value", ylabel="filled in", xlim=limits, ylim=limits, aspect="equal")
plt.show()

# %%
# Learn and score with holes
# --------------------------
#
# In arrays a missing value is NaN. The log-likelihood of a record with holes is that of what is there: the missing
# values are integrated out exactly. So a detector goes on when a sensor dies. Here two of the nine sensors are dead
# in all records that are scored, and anomalies (which are labelled in these data) are still told from the others:

labels = np.concatenate([block.values[:, 0] for block in sem.open_source(shuttle_path(), fields=[LABEL])])[:10_000] > 0
learner = sem.Learner(sem.GaussianMixture(n_components=3))
learner.learn(records[:8000])
blind = whole[8000:].copy()
blind[:, [7, 8]] = np.nan
print(f"ROC AUC with all sensors {roc_auc(-learner.log_likelihood(whole[8000:]), labels[8000:]):.3f}")
print(f"without f8 and f9        {roc_auc(-learner.log_likelihood(blind), labels[8000:]):.3f}")

# %%
# Log-likelihoods are densities in as many dimensions as a record has values: compare them among records with the
# same holes only. A record without any value has log-likelihood 0, and nothing is learned from it.
#
# What the holes cost
# -------------------
#
# The same records, learned without holes, give a model that predicts new records better by so much:

same = sem.Learner(learner.model)
same.learn(whole[:8000])
new = whole[8000:]
print(f"{(same.log_likelihood(new) - learner.log_likelihood(new)).mean():.2f} nats a record")
