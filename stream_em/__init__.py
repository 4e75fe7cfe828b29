"""Expectation–maximisation on streams.

A model is a value, its type chooses its compiled functions; what has been learned is two vectors, theta and s; learning
is one line: s <- s + gamma (s_bar(block; theta) - s), theta <- theta_bar(s).

The house, ground floor first:

* `kernels`    numbers in, numbers out: compilation and dispatch, exponentials, small matrices
* `emissions`  component densities: features, log-densities, statistics
* `stepsize`   gamma(t) as a value
* `em`         the algorithm, once
* `models`     one latent-variable model a file
* `streams`    records from files
* `learning`   first parameters, batch and incremental EM, the learner, its file, the snapshots of a run
* `unmixing`   superimposed signals told apart while they arrive
* `sinks`      what was found, written exactly once
* `config`     what a run is told; `configcheck` checks it, `configfile` reads it, `configschema` describes it
* `estimators` the models as estimators of river and of scikit-learn
* `runs`       a run on the disk: folder, lock, journal
* `pipeline`   source -> learner -> snapshot -> sink
* `service`    metrics and health
* `report`     a run as one page with pictures
* `cli`        one file a command
"""

from typing import TYPE_CHECKING, Any

from stream_em.version import __version__

if TYPE_CHECKING:
    from stream_em.errors import InputError, OutsideError
    from stream_em.learning.batch import BatchFit, batch_em
    from stream_em.learning.drift import DriftSettings
    from stream_em.learning.incremental import incremental_em
    from stream_em.learning.learner import Learner
    from stream_em.learning.state import Event
    from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing
    from stream_em.models.gaussian_mixture import GaussianMixture
    from stream_em.models.hidden_markov import HiddenMarkov
    from stream_em.models.nonnegative_factorization import NonnegativeFactorization
    from stream_em.models.signal_unmixing import SignalUnmixing
    from stream_em.models.superimposed_sinusoids import SuperimposedSinusoids
    from stream_em.stepsize import Stepsize
    from stream_em.streams.files import open_source
    from stream_em.streams.records import Block
    from stream_em.unmixing.convolutive import ConvolutiveUnmixer
    from stream_em.unmixing.unmixer import Unmixer

_HOMES = {
    "BatchFit": "learning.batch",
    "Block": "streams.records",
    "ConvolutiveUnmixer": "unmixing.convolutive",
    "ConvolutiveUnmixing": "models.convolutive_unmixing",
    "DriftSettings": "learning.drift",
    "Event": "learning.state",
    "GaussianMixture": "models.gaussian_mixture",
    "HiddenMarkov": "models.hidden_markov",
    "InputError": "errors",
    "Learner": "learning.learner",
    "NonnegativeFactorization": "models.nonnegative_factorization",
    "OutsideError": "errors",
    "SignalUnmixing": "models.signal_unmixing",
    "Stepsize": "stepsize",
    "SuperimposedSinusoids": "models.superimposed_sinusoids",
    "Unmixer": "unmixing.unmixer",
    "batch_em": "learning.batch",
    "incremental_em": "learning.incremental",
    "open_source": "streams.files",
}

__all__ = [
    "BatchFit",
    "Block",
    "ConvolutiveUnmixer",
    "ConvolutiveUnmixing",
    "DriftSettings",
    "Event",
    "GaussianMixture",
    "HiddenMarkov",
    "InputError",
    "Learner",
    "NonnegativeFactorization",
    "OutsideError",
    "SignalUnmixing",
    "Stepsize",
    "SuperimposedSinusoids",
    "Unmixer",
    "__version__",
    "batch_em",
    "incremental_em",
    "load",
    "open_source",
    "save",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: numba and pyarrow take seconds, and printing help needs neither."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stream_em' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"stream_em.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def save(learner: "Learner", path: Any) -> None:
    """Write a learner to a file; see `Learner.save`."""
    learner.save(path)


def load(path: Any) -> "Learner":
    """Read a learner from a file; see `Learner.load`.

    >>> import tempfile
    >>> import stream_em as sem
    >>> learner = sem.Learner(sem.GaussianMixture(n_components=2), seed=3)
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     sem.save(learner, file.name)
    ...     sem.load(file.name).settings == learner.settings
    True
    """
    from stream_em.learning.learner import Learner

    return Learner.load(path)
