"""The hidden Markov model with Gaussian emissions: settings, and parameters as its users see them."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import maximise, model_sizes, params_of, stats_of
from stream_em.emissions.gaussian import (
    checked,
    component_at,
    covariances_of,
    drawn,
    means_of,
    n_gaussian,
    set_gaussian,
    unit_gaussian,
)
from stream_em.errors import InputError
from stream_em.models.chain import Chain
from stream_em.models.gaussian_settings import GaussianSettings


class HiddenMarkovParams(NamedTuple):
    """Parameters in the records' units."""

    initial: FloatArray
    """(K,): probabilities of the first state."""
    transitions: FloatArray
    """(K, K): row i holds the probabilities of the state after state i."""
    means: FloatArray
    """(K, D)."""
    covariances: FloatArray
    """(K, D, D), (D, D), (K, D) or (K,) for covariance_type full, tied, diag, spherical."""


class HiddenMarkov(GaussianSettings, frozen=True, forbid_unknown_fields=True):
    """A hidden Markov model with Gaussian emissions over one endless sequence; NaN is missing and marginalised exactly.

    `reg_covar` is added to every variance, in squared units of the records.
    `covariance_prior` is the strength of the covariances' prior in pseudo-records a state, `transition_prior` that of
    each transition in pseudo-transitions (0: maximum likelihood). So many as `spared_records` of a state's records are
    not forgotten while it is not visited: mean and covariance are still there when it returns; transitions are
    forgotten. Parameters named in `frozen` ("initial", "transitions", "means", "covariances") keep their starting
    values.

    >>> import stream_em as sem
    >>> state = np.arange(4000) // 50 % 2
    >>> X = 6.0 * state.reshape(-1, 1) + np.random.default_rng(0).normal(size=(4000, 1))
    >>> learner = sem.Learner(HiddenMarkov(n_components=2))
    >>> log_likelihood = learner.learn(X)
    >>> np.diag(learner.params.transitions).round(1)
    array([1., 1.])
    >>> found = learner.posterior(X[:50]).argmax(axis=1)  # as the sequence goes on
    >>> bool((found == found[0]).all())
    True
    """

    transition_prior: float = 0.01

    name: ClassVar[str] = "hidden-markov"
    summary: ClassVar[str] = "hidden Markov model with Gaussian emissions on one endless sequence"
    params_type: ClassVar[type] = HiddenMarkovParams
    freezable: ClassVar[tuple[str, ...]] = HiddenMarkovParams._fields

    @property
    def records_together(self) -> None:
        """All of them."""
        return None

    def sized(self, n_features: int) -> Chain:
        """Return the compiled form for records of `n_features` features."""
        return Chain(
            self.emission(n_features),
            int("initial" not in self.frozen),
            int("transitions" not in self.frozen),
            float(self.transition_prior),
            float(self.spared_records),
        )

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta in the units of the records (n, D), every state at their overall mean and covariance."""
        theta = np.zeros(model_sizes(sized)[1])
        params = params_of(sized, theta)
        params.initial[:] = params.transitions[:] = 1.0 / self.n_components
        unit_gaussian(sized.emission, params.emission, records, weights)
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        K = self.n_components
        initial = checked("initial", params.initial, (K,))
        transitions = checked("transitions", params.transitions, (K, K))
        for name, values in (("initial", initial), ("each row of transitions", transitions)):
            if values.min() < 0 or np.abs(values.sum(axis=-1) - 1).max() > 1e-6:
                raise InputError(f"{name} must be non-negative and sum to 1")
        found = params_of(sized, theta)
        found.initial[:], found.transitions[:] = initial, transitions
        set_gaussian(sized.emission, found.emission, params.means, params.covariances)
        maximise(sized, theta, np.empty(0), 0.0)

    def params(self, sized: Any, theta: FloatArray) -> HiddenMarkovParams:
        """Return the parameters in the records' units."""
        found = params_of(sized, theta)
        covariances = covariances_of(sized.emission, found.emission)
        return HiddenMarkovParams(found.initial.copy(), found.transitions.copy(), means_of(found.emission), covariances)

    def sample(self, params: Any, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Draw a sequence of n records (n, D) and its states (n,)."""
        states, chances = np.empty(n, dtype=np.int64), params.initial
        for t, u in enumerate(rng.random(n)):
            states[t] = min(int(np.searchsorted(np.cumsum(chances), u)), self.n_components - 1)
            chances = params.transitions[states[t]]
        return drawn(params, states, self.covariance_type, rng), states

    def n_parameters(self, n_features: int) -> int:
        """Return the number of free parameters."""
        return n_gaussian(self.n_components, n_features, self.covariance_type) + self.n_components**2 - 1

    def component_mass(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return each state's share (K,) of the records in s."""
        stats = stats_of(sized, s)
        if len(stats.stood_for):
            mass = stats.transitions.sum(axis=0) @ stats.state
        else:
            mass = stats.emission[:, 0].reshape(self.n_components, -1) @ stats.state
        return np.asarray(mass / mass.sum())

    def reseed(self, sized: Any, theta: FloatArray, s: FloatArray, k: int, record: FloatArray) -> None:
        """Start state k anew at a record (D,), with a small share of the records, entered as rarely as that."""
        found, stats = params_of(sized, theta), stats_of(sized, s)
        share = self.revived_share(sized, s)
        mass = self.component_mass(sized, s)
        row = component_at(sized.emission, found.emission, mass, k, record)
        rows = stats.emission.reshape(self.n_components, self.n_components, -1)
        rows[k] = row * share * (stats.mass[0] if len(stats.mass) else rows[:, :, 0].sum(axis=0) @ stats.state)
        stats.stood_for[k : k + 1] = 0.0
        total = (stats.transitions @ stats.state).sum()
        stats.transitions[:, k] = stats.transitions[k] = share * total / self.n_components
        found.transitions[:, k] = np.maximum(found.transitions[:, k], share)
        found.transitions[k] = 1.0 / self.n_components
        found.transitions[:] /= found.transitions.sum(axis=1, keepdims=True)
        maximise(sized, theta, np.empty(0), 0.0)
