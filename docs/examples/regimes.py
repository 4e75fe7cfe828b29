"""
Regime switching
================

Markets are calm for weeks and then wild for days. A hidden Markov model says so in two numbers a regime: how much
the price moves in a day, and how probably the next day is of the same regime. The regime itself is never observed;
the filter gives its probability every day, from what was known by then.

The data are 8,195 daily prices of Brent crude oil, from 1987 to 2019, which come with river.
"""

import matplotlib.pyplot as plt
import numpy as np
from river.drift.datasets import BrentSpotPrice

import stream_em as sem

days, prices = zip(*((x["day"], y) for x, y in BrentSpotPrice()), strict=True)
# Prices are rounded to cents, so some returns are exactly 0 and have no density: noise of one cent mends it.
price = np.array(prices) + np.random.default_rng(0).uniform(-0.005, 0.005, len(prices))
returns = 100 * np.diff(np.log(price)).reshape(-1, 1)
print(f"{len(returns):,} daily returns, from {days[1]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}")

# %%
# Learn day by day
# ----------------
#
# ``posterior`` receives the probability of each regime, and the result is the log-likelihood of each day: both are
# told *before* the day is learned. The first 500 days choose the start.

MODELS = {
    "one Gaussian": sem.GaussianMixture(n_components=1),
    "mixture of three": sem.GaussianMixture(n_components=3),
    "hidden Markov, three states": sem.HiddenMarkov(n_components=3),
}
for name, model in MODELS.items():
    learner = sem.Learner(model, warmup=500)
    regime = np.empty((len(returns), model.n_components))
    log_likelihood = learner.learn(returns, posterior=regime)
    print(f"{name}: {np.nanmean(log_likelihood):.3f} nats a day")

# %%
# A mixture knows that there are wild days, but not that one wild day follows another. The chain does, and predicts
# better.
#
# What the regimes are
# --------------------

params = learner.params
deviations = np.sqrt(params.covariances[:, 0, 0])
calm, usual, wild = order = np.argsort(deviations)
stay = np.diag(params.transitions)
for name, k in zip(("calm", "usual", "wild"), order, strict=True):
    print(f"{name}: moves by {deviations[k]:.1f} % a day, lasts {1 / (1 - stay[k]):.0f} days on average")

# %%
# When they were
# --------------

figure, (above, below) = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, layout="constrained", height_ratios=[2, 1])
above.plot(days, price, color="#334155", linewidth=0.8)
above.set(ylabel="Brent, dollars a barrel", yscale="log")
below.stackplot(
    days[1:], *(regime[:, order].T), colors=["#e2e8f0", "#f4b183", "#c2410c"], labels=["calm", "usual", "wild"]
)
below.set(ylabel="probability", ylim=(0, 1))
below.legend(loc="lower left", fontsize="small", ncols=3)
plt.show()

# %%
# Nothing in the picture looks ahead, so the first years are those of a model that has not seen much. The Gulf War
# of 1990, the crash of 2008 and the glut of 2014 to 2016 stand out, and so does the calm of 2013.
#
# A filter for every day
# ----------------------
#
# With river, the same model is a filter that one can ask at any time. ``state_probabilities`` is the state now.

from stream_em.estimators.river import HiddenMarkov

river = HiddenMarkov(n_components=3, warmup=500)
for day in returns[:, 0].tolist():
    river.learn_one({"return": day})
spread = {k: river.params.covariances[k, 0, 0] ** 0.5 for k in range(3)}
print({f"moves by {spread[k]:.1f} %": round(river.state_probabilities[k], 2) for k in sorted(spread, key=spread.get)})
