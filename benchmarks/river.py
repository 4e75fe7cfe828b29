"""The river face against river's own clusterers, and a table of records against one record at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from river import cluster

from benchmarks.rows import Row, alternated, faster
from benchmarks.samples import mixture_params, mixture_records
from stream_em.estimators.river import GaussianMixture, HiddenMarkov

K, D, TABLE = 3, 16, 1000


def run(quick: bool) -> Iterator[Row]:
    """Yield the rows of learn_one, predict_one and learn_many."""
    n, rounds = (2_000, 1) if quick else (20_000, 5)
    X = mixture_records(mixture_params(K, D, spread=2.0), n)
    records = [{f"x{d}": value for d, value in enumerate(row)} for row in X.tolist()]
    peers = {"KMeans(5)": cluster.KMeans(n_clusters=5), "STREAMKMeans": cluster.STREAMKMeans()}
    ours = {"diag": GaussianMixture(K, covariance_type="diag"), "full": GaussianMixture(K)}
    goals = {"diag": ">= 1", "full": ">= 0.5"}
    everything = [*peers.values(), *ours.values(), HiddenMarkov(K)]
    for model in everything:
        loop(model.learn_one, records)()
    for kind, model in ours.items():
        for peer, other in peers.items():
            name = f"learn_one, {kind}, K={K} D={D}, against {peer}"
            yield per_record(
                name, loop(model.learn_one, records), loop(other.learn_one, records), n, rounds, goals[kind]
            )
        other = peers["KMeans(5)"]
        name = f"predict_one, {kind}, against KMeans(5)"
        yield per_record(name, loop(model.predict_one, records), loop(other.predict_one, records), n, rounds, "")
    table = pd.DataFrame(X, columns=[f"x{d}" for d in range(D)])
    tables = [table[begin : begin + TABLE] for begin in range(0, n, TABLE)]
    for kind, model in ours.items():
        many, one = loop(model.learn_many, tables), loop(model.learn_one, records)
        yield per_record(f"learn_many, {kind}, {TABLE:,}-row frames, against learn_one", many, one, n, rounds, ">= 20")
    chain = everything[-1]
    name = "learn_one, hidden Markov, against KMeans(5)"
    peer_loop = loop(peers["KMeans(5)"].learn_one, records)
    yield per_record(name, loop(chain.learn_one, records), peer_loop, n, rounds, "")


def loop(function: Callable[[Any], Any], values: list[Any]) -> Callable[[], None]:
    """Return a loop of calls."""

    def calls() -> None:
        for value in values:
            function(value)

    return calls


def per_record(name: str, ours: Callable[[], None], peer: Callable[[], None], n: int, rounds: int, goal: str) -> Row:
    """Return a row of microseconds a record."""
    times = alternated(ours, peer, rounds)
    mine, theirs = (list(np.array(each) / n) for each in times)
    return faster(name, (mine, theirs), goal, "µs")
