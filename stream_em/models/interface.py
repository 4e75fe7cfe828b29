"""What a model's settings must offer to be learned, saved and shown; the compiled side is listed in `stream_em.em`."""

from typing import Any, ClassVar

import msgspec
import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import records_behind
from stream_em.errors import InputError

MOST_COMPONENTS = 10_000
STRONGEST_PRIOR = 1e12
START_GAIN = 1e-6


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a model: a value. A model type adds its fields and the methods below."""

    n_components: int = 2
    frozen: tuple[str, ...] = ()

    name: ClassVar[str]
    """The model's name on the command line and in files."""
    summary: ClassVar[str]
    """One line for `stream-em models`."""
    params_type: ClassVar[type]
    """The NamedTuple of its parameters, in the records' units."""
    freezable: ClassVar[tuple[str, ...]]
    """Which parameters `frozen` may name."""
    tells_surprise: ClassVar[bool] = False
    """Whether its compiled form has a `stream_em.em.surprise`, by which outliers are told."""
    tells_signals: ClassVar[bool] = False
    """Whether the hidden variables of the records are signals, which can be written as sound."""
    has_mixing: ClassVar[bool] = False
    """Whether they are signals that every record mixes, so that crosstalk shows a change."""
    assignable: ClassVar[bool] = True
    """Whether the hidden variable is one of K: it has probabilities, and records can be assigned to its values."""

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible setting."""
        for field in msgspec.structs.fields(self):
            try:
                value = msgspec.convert(getattr(self, field.name), field.type)
            except msgspec.ValidationError as error:
                raise InputError(f"{self.name}: {field.name}: {error}") from None
            self._check(field.name, value)
            msgspec.structs.force_setattr(self, field.name, value)

    def _check(self, field: str, value: Any) -> None:
        if field == "n_components" and value < 1:
            raise InputError(f"n_components must be at least 1, not {value}")
        if field == "n_components" and value > MOST_COMPONENTS:
            raise InputError(f"n_components must be at most {MOST_COMPONENTS}, not {value}")
        if field.endswith("_prior") and not 0 <= value <= STRONGEST_PRIOR:
            raise InputError(f"{field} must be a number of records from 0 to {STRONGEST_PRIOR:g}, not {value}")
        for name in value if field == "frozen" else ():
            if name not in self.freezable:
                raise InputError(f"frozen may name {', '.join(self.freezable)}; not {name!r}")

    def from_params(self, params: Any) -> tuple[Any, FloatArray]:
        """Return the compiled form and a parameter vector for named parameters, in the units that these imply."""
        self.check_params(params)
        pseudo_records = self.sketch(params)
        sized = self.sized(pseudo_records.shape[1])
        theta = self.unit_theta(sized, pseudo_records, np.ones(len(pseudo_records)))
        self.set_params(sized, theta, params)
        return sized, theta

    def check_params(self, params: Any) -> None:
        """Raise `InputError` if these are not parameters of this model."""
        lacking = [name for name in self.params_type._fields if not hasattr(params, name)]  # type: ignore[attr-defined]
        if lacking:
            raise InputError(f"{self.name}: params must be {self.params_type.__name__}; they have no {lacking[0]}")

    def small(self) -> "Settings":
        """Return a model of two components that runs the same compiled code."""
        return msgspec.structs.replace(self, n_components=2, frozen=())

    def sized(self, n_features: int) -> Any:
        """Return the compiled form (a NamedTuple of sizes and settings) for records of `n_features` features."""
        raise NotImplementedError

    @property
    def records_together(self) -> int | None:
        """How many consecutive records have hidden variables in common; None: all of them."""
        raise NotImplementedError

    @property
    def exchangeable(self) -> bool:
        """Whether the order of the records does not matter."""
        return self.records_together == 1

    @property
    def least_features(self) -> int:
        """How many features a record needs at least."""
        return 1

    @property
    def most_features(self) -> int | None:
        """How many features a record may have at most; None if there is no limit."""
        return None

    def counted_features(self, n_features: int) -> int:
        """Return how many features count where records are counted per component and feature."""
        return n_features

    def check_records(self, records: FloatArray) -> None:
        """Raise `InputError` for (n, D) records that this model cannot have."""

    @property
    def recent_records(self) -> int:
        """How many of the latest records challengers are made from, unless a learner is told."""
        return 2048

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        raise NotImplementedError

    def sketch(self, params: Any) -> FloatArray:
        """Return a few records (n, D) with about the location and spread of the model with these parameters."""
        raise NotImplementedError

    def with_features(self, params: Any, posterior: FloatArray, records: FloatArray) -> Any:
        """Return parameters that know more features: those of the last columns of (n, D) records, NaN where missing.

        `posterior` (n, K) says of which component each of the records is. None if it must begin anew.
        """
        return None

    def sample(self, params: Any, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Draw n records (n, D) and their hidden variables (n,) from the model with these parameters."""
        raise NotImplementedError

    def n_parameters(self, n_features: int) -> int:
        """Return the number of free parameters for records of so many features."""
        raise NotImplementedError

    def units(self, sized: Any, theta: FloatArray) -> FloatArray:
        """Return the units that the statistics are kept in; statistics add only if these agree."""
        raise NotImplementedError

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return a parameter vector in the units of the records (n, D) with weights (n,), all components alike."""
        raise NotImplementedError

    def another_start(
        self, sized: Any, records: FloatArray, weights: FloatArray, rng: np.random.Generator
    ) -> FloatArray | None:
        """Return a random start where records cannot be assigned; None if there is no other than `unit_theta`."""
        return None

    def start_gain(self, records: FloatArray) -> float:
        """Return the gain of an EM iteration in nats a record below which a start has converged on (n, D) records."""
        return START_GAIN

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set the parameter vector from named parameters in the records' units."""
        raise NotImplementedError

    def params(self, sized: Any, theta: FloatArray) -> Any:
        """Return the named parameters in the records' units."""
        raise NotImplementedError

    def shares(self, posterior: FloatArray) -> FloatArray:
        """Return the share (n, K) of each component in each record, given what `Learner.posterior` tells of them."""
        return posterior

    def component_mass(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return each component's share (K,) of the records in the statistics."""
        raise NotImplementedError

    def component_records(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return how many records (K,) each component stands for; one that stands for next to none is started anew."""
        return np.asarray(self.component_mass(sized, s) * records_behind(s))

    def reseed(self, sized: Any, theta: FloatArray, s: FloatArray, k: int, record: FloatArray) -> None:
        """Start component k anew at a record (D,)."""
        raise NotImplementedError
