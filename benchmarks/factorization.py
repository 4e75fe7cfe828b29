"""Non-negative factorisation in one pass against scikit-learn's `MiniBatchNMF`: loss on held-out records, and time.

The peer learns by `partial_fit` of blocks of the same length, with either forgetting factor: the better one counts.
Losses are those of scikit-learn (half the deviance), with activations that are fitted to convergence.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchNMF, non_negative_factorization
from sklearn.decomposition._nmf import _beta_divergence

from benchmarks.rows import Row, alternated, faster, seconds
from stream_em.demo import recordings
from stream_em.learning.learner import Learner
from stream_em.models.nonnegative_factorization import NonnegativeFactorization, NonnegativeFactorizationParams

WINDOW, HOP, BLOCK = 512, 128, 512
CONVERGED = 2000
ROUNDS = 3
FORGETTING = (0.7, 1.0)


def run(quick: bool) -> Iterator[Row]:
    """Yield for each data set the held-out loss after one pass, with one start and with eight, and the time."""
    yield from activations(quick)
    for name, X, K, beta_loss in panel(quick):
        order = np.random.default_rng(0).permutation(len(X))
        train, test = np.ascontiguousarray(X[order[len(X) // 10 :]]), np.ascontiguousarray(X[order[: len(X) // 10]])
        model = NonnegativeFactorization(n_components=K, beta_loss=beta_loss)
        once(model, train[: 2 * BLOCK], 1)
        losses = {starts: held_out(model, once(model, train, starts).params, test) for starts in (1, 8)}
        theirs = {factor: peer(model, train, factor) for factor in FORGETTING}
        peers = {factor: held_out(model, found, test) for factor, found in theirs.items()}
        factor = min(peers, key=lambda each: peers[each])
        size = f"{name}, {beta_loss}, {len(train):,} x {X.shape[1]}, K {K}"
        for starts, loss in losses.items():
            note = f"peer: forget_factor {factor:g}"
            words = "one start" if starts == 1 else f"{starts} starts"
            what = f"{size}: loss a held-out record, {words}"
            yield Row(what, loss, peers[factor], loss / peers[factor], "<= 1.0", "nats", note)
        times = alternated(
            lambda model=model, train=train: once(model, train, 1),
            lambda model=model, train=train, factor=factor: peer(model, train, factor),
            1 if quick else ROUNDS,
        )
        yield faster(f"{size}: one pass, one start", times, "", "s")
        yield as_long(f"{size}: loss, the peer goes on for as long", model, train, test, losses[1], factor)


def as_long(
    name: str, model: NonnegativeFactorization, train: np.ndarray, test: np.ndarray, loss: float, factor: float
) -> Row:
    """Return our loss after one pass against the peer's after as many passes as take as long."""
    times = [seconds(lambda: once(model, train, 1)), seconds(lambda: peer(model, train, factor))]
    passes = max(1, round(times[0] / times[1]))
    theirs = held_out(model, peer(model, train, factor, passes), test)
    return Row(name, loss, theirs, loss / theirs, "<= 1.0", "nats", f"{passes} pass{'es' * (passes > 1)} of the peer")


def activations(quick: bool) -> Iterator[Row]:
    """Yield the time of equally many updates of the activations, components given, against scikit-learn's."""
    X, K, n_inner = np.sqrt(spectrogram(50 if quick else 1000)), 16, 30
    components = np.random.default_rng(0).dirichlet(np.ones(X.shape[1]), K)
    for beta_loss, data in (("kullback-leibler", X), ("itakura-saito", X**2)):
        model = NonnegativeFactorization(n_components=K, beta_loss=beta_loss, n_inner=n_inner, tolerance=0.0)
        learner = Learner(model, params=NonnegativeFactorizationParams(components, np.ones(K)))
        peer = partial(
            non_negative_factorization, data, H=components, n_components=K, init="custom", update_H=False,
            solver="mu", beta_loss=beta_loss, max_iter=n_inner, tol=0.0,
        )  # fmt: skip
        learner.posterior(data)
        times = alternated(
            lambda learner=learner, data=data: learner.posterior(data),
            peer,
            1 if quick else ROUNDS,
        )
        # An update is two products of n, K and F, three for powers; one more gives the means after the last.
        flops = 2.0 * data.size * K * ((2 if model.counts else 3) * n_inner + 1)
        note = f"{flops / min(times[0]) / 1e9:.1f} GFLOP/s in products alone"
        yield faster(
            f"{n_inner} updates of activations, {beta_loss}, {len(data):,} x {data.shape[1]}, K {K}",
            times,
            "",
            "ms",
            note,
        )


def panel(quick: bool) -> Iterator[tuple[str, np.ndarray, int, str]]:
    """Yield name, records, components and loss."""
    power = spectrogram(200 if quick else None)
    yield "speech and music, power", power, 4 if quick else 16, "itakura-saito"
    if quick:
        return
    yield "speech and music, amplitude", np.sqrt(power), 16, "kullback-leibler"
    yield "digits", load_digits().data, 10, "kullback-leibler"
    yield "Poisson", counts(100_000), 10, "kullback-leibler"


def spectrogram(most: int | None) -> np.ndarray:
    """Return power spectra (n, 257) of the recordings that come with the package, in units of their mean."""
    found = []
    for samples in recordings().T:
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:most]
        found.append(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2)
    power = np.concatenate(found)
    # Digital silence would have no finite loss; a noise of -90 dB is beyond hearing.
    return np.asarray(power / power.mean() + 1e-9)


def counts(n: int) -> np.ndarray:
    """Return counts (n, 64) of 10 superimposed components."""
    rng = np.random.default_rng(1)
    return rng.poisson(rng.gamma(0.5, 40.0, (n, 10)) @ rng.dirichlet(np.full(64, 0.3), 10)).astype(float)


def once(model: NonnegativeFactorization, X: np.ndarray, starts: int) -> Learner:
    """Learn the records in one pass."""
    learner = Learner(model, starts=starts, refresh_every=BLOCK)
    for begin in range(0, len(X), BLOCK):
        learner.learn(X[begin : begin + BLOCK])
    return learner


def peer(
    model: NonnegativeFactorization, X: np.ndarray, factor: float, passes: int = 1
) -> NonnegativeFactorizationParams:
    """Let scikit-learn do the same."""
    nmf = MiniBatchNMF(
        model.n_components, beta_loss=model.beta_loss, forget_factor=factor, batch_size=BLOCK, random_state=0
    )
    for begin in list(range(0, len(X), BLOCK)) * passes:
        nmf.partial_fit(X[begin : begin + BLOCK])
    components = nmf.components_ / nmf.components_.sum(axis=1, keepdims=True)
    return NonnegativeFactorizationParams(components, np.ones(model.n_components))


def held_out(model: NonnegativeFactorization, params: NonnegativeFactorizationParams, X: np.ndarray) -> float:
    """Return the mean loss of a record, with activations fitted to convergence."""
    exact = NonnegativeFactorization(
        n_components=model.n_components, beta_loss=model.beta_loss, n_inner=CONVERGED, tolerance=1e-6
    )
    activations = Learner(exact, params=params).posterior(X)
    return float(_beta_divergence(X, activations, params.components, exact.beta_loss)) / len(X)
