"""Hidden Markov models: one EM iteration against hmmlearn's, and the speed of the online recursion."""

from collections.abc import Iterator

import hmmlearn.hmm
import numpy as np

import stream_em as sem
from benchmarks.rows import Row, alternated, faster, seconds
from benchmarks.samples import chain_params, chain_records
from stream_em.em import e_step, maximise, model_sizes
from stream_em.models.hidden_markov import HiddenMarkovParams


def run(quick: bool) -> Iterator[Row]:
    """Yield a row for each of hmmlearn's two algorithms, and the online speed."""
    n = 2000 if quick else 100_000
    params = chain_params(8, 8, spread=1.0)
    X = chain_records(params, n)
    for implementation in ("log", "scaling"):
        yield iteration(params, X, implementation, 2 if quick else 5)
    yield online(4, 4, n, 2 if quick else 7)


def iteration(params: HiddenMarkovParams, X: np.ndarray, implementation: str, rounds: int) -> Row:
    """Compare one E-step with M-step over the same sequence from the same parameters."""
    K, n, D = len(params.initial), *X.shape
    model = sem.HiddenMarkov(K, covariance_prior=0.0, transition_prior=0.0)
    sized, start = model.from_params(params)
    s, ones = np.zeros(model_sizes(sized)[3]), np.ones(n)
    # Its priors are its defaults: its M-step needs a positive one on the covariances.
    peer = hmmlearn.hmm.GaussianHMM(K, "full", n_iter=1, init_params="", implementation=implementation)

    def ours() -> None:
        theta = start.copy()
        e_step(sized, theta, s, X, ones)
        maximise(sized, theta, s, float(n))

    def theirs() -> None:
        peer.startprob_, peer.transmat_, peer.means_, peer.covars_ = params
        peer.fit(X)

    ours()
    theirs()
    log_likelihood, expected = e_step(sized, start, s, X, ones), peer.monitor_.history[0]
    assert abs(log_likelihood - expected) < 1e-8 * abs(expected), "the two must do the same work"
    times = alternated(ours, theirs, rounds)
    name = f"EM iteration, hidden Markov full K={K} D={D}, hmmlearn {implementation!r}"
    return faster(name, times, ">= 3", note=f"{n:,} records, mean log-likelihood {log_likelihood / n:.4f}")


def online(K: int, D: int, n: int, rounds: int) -> Row:
    """Measure records a second of the online recursion."""
    params = chain_params(K, D, spread=1.5)
    X = chain_records(params, n)
    sem.Learner(sem.HiddenMarkov(K), params=params).learn(X[:512])
    times = [seconds(lambda: sem.Learner(sem.HiddenMarkov(K), params=params).learn(X)) for _ in range(rounds)]
    rates = sorted(n / time for time in times)
    name = f"online hidden Markov full K={K} D={D}"
    return Row(name, rates[len(rates) // 2], None, None, "", "records/s", f"{n:,} records, best {rates[-1]:,.0f}")
