"""
Streaming anomalies
===================

A stream of sensor records comes in, and a few of them are not like the others. A density tells which: a record that
the model holds for improbable is an anomaly. The model is learned from the same stream, record by record, and no
label is ever shown to it.

The records are the Statlog Shuttle data, which come with river: 49,097 records of nine sensors of the space
shuttle, 7.2 % of them labelled anomalous. Their order is random, so this stream does not drift.
"""

import matplotlib.pyplot as plt
import numpy as np

import stream_em as sem
from stream_em.demo import LABEL, SENSORS, roc_auc, shuttle_path

blocks = list(sem.open_source(shuttle_path(), fields=[*SENSORS, LABEL], block_size=1000))
values = np.concatenate([block.values for block in blocks])
records, labels = values[:, :-1], values[:, -1] > 0
print(f"{len(records):,} records of {records.shape[1]} sensors, {labels.mean():.1%} anomalies")

# %%
# Score, then learn
# -----------------
#
# ``learn`` returns the log-likelihood of each record *before* the record was learned, so each score is an honest
# prediction. The first records are collected to find a start from; they have no score (NaN). How the stream is cut
# into blocks does not matter: a block is only a way to hand over many records at once.

learner = sem.Learner(sem.GaussianMixture(n_components=3))
scores = -np.concatenate([learner.learn(block) for block in np.array_split(records, 50)])
scored = ~np.isnan(scores)
print(f"{np.count_nonzero(~scored)} records were collected first")
print(f"ROC AUC {roc_auc(scores[scored], labels[scored]):.4f}")

# %%
# ROC AUC is the probability that an anomaly scores higher than a usual record. To raise alarms, choose how many you
# can look at. The curve shows what share of the anomalies is among the records with the highest scores. Nobody can
# lie above the dashed line.

order = np.argsort(-scores[scored])
found = np.cumsum(labels[scored][order]) / labels[scored].sum()
share = np.arange(1, len(order) + 1) / len(order)

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.plot(100 * share, 100 * found, color="#c2410c", label="by log-likelihood")
axes.plot([0, 100 * labels.mean(), 25], [0, 100, 100], "--", color="#9aa5b1", label="by the labels")
axes.set(xlim=(0, 25), ylim=(0, 102), xlabel="records looked at, %", ylabel="anomalies among them, %")
axes.legend(loc="lower right")
plt.show()

for tenth in (0.05, 0.1):
    print(f"{found[int(tenth * len(found))]:.1%} of the anomalies are in the first {tenth:.0%} of the records")

# %%
# Note the first records on the left: the most improbable of all are not labelled. They are broken readings,
# thousands of units away from the others. A density cannot know which kind of improbable record you are looking
# for.
#
# One record at a time, in river
# ------------------------------
#
# The same as an anomaly detector of river, for records that are dicts. A log-likelihood is hard to read as a score:
# 40 nats of what? With ``calibrated=True`` the score is 1 - p, where p is the share of the latest 1,000 records
# that were at least as improbable. So a threshold of 0.9 means: one alarm in ten records, whatever the data look
# like.

from stream_em.estimators.river import AnomalyDetector, GaussianMixture

detector = AnomalyDetector(GaussianMixture(n_components=3), calibrated=True)
alarms = []
for record in records[:5000].tolist():
    x = dict(zip(SENSORS, record, strict=True))
    alarms.append(detector.score_one(x) > 0.9)
    detector.learn_one(x)

late = slice(1000, 5000)
raised, true = np.array(alarms)[late], labels[late]
print(f"{raised.mean():.1%} alarms, {true[raised].mean():.0%} of them right")
print(f"{raised[true].mean():.0%} of the anomalies have one")

# %%
# What to change for your data
# ----------------------------
#
# * ``n_components``: compare ``learner.mean_log_likelihood`` of several, each learned on the same stream. It is the
#   mean of predictions, so a model that is too large does not win by itself.
# * A world that moves: give a half-life, ``stepsize=sem.Stepsize.constant(half_life=10_000)``.
# * Anomalies that must not be learned: ``robust=10`` scores records that are more than ten standard deviations off,
#   and leaves them out.
