"""Signals with echoes told apart while they arrive: a chunk in, its sources out a window later."""

from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.learning.snapshot import Tensors, read_snapshot, write_snapshot
from stream_em.learning.state import Event
from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing, ConvolutiveUnmixingParams
from stream_em.stepsize import Stepsize
from stream_em.streams.records import as_records
from stream_em.unmixing.engine import still_channels
from stream_em.unmixing.hops import Contest, Engine, begun, blank, decided, entered, learn_hop
from stream_em.unmixing.live import Live

POWER, UNIT_FRAMES = 0.9, 16
"""The usual stepsize: t^-POWER, but plain means over the first frames."""


class ConvolutiveUnmixerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an unmixer works; the words are those of `ConvolutiveUnmixer`."""

    n_components: int | None
    window: int
    hop: int | None
    nu: float
    detect: bool
    reference: int | None
    stepsize: Stepsize
    sample_rate: float | None


class ConvolutiveUnmixer(Live):
    """Tells signals that were superimposed with echoes apart while they arrive, by online EM, without a learning rate.

    For microphones in a room. `process` takes chunks (n, D) of any length and returns the sources (n, K) of what came
    `window` samples before, by what was learned before it; the first `window` samples are zeros, and `flush` returns
    the last. There are `n_components` sources, and noise beside them if that is fewer than channels (None: as many as
    channels). The `window`, a power of two, is to be about as long as the echoes last: 1024 or 2048 at 16 kHz; frames
    begin every `hop` samples (None: a quarter of it). Sources come out as they are at channel `reference`, or, if None,
    each at the channel of its own number. A constant `stepsize` follows a speaker who moves; with `detect`, which costs
    a third more, it is noticed that all has become as in another room, and learned anew: `events` tells of it, and the
    order of the sources may change. A missing value, NaN, counts as silence, and the frames that it is in are not
    learned. Raises `InputError` for impossible settings.

    >>> rng = np.random.default_rng(0)
    >>> loudness = np.repeat(np.exp(rng.normal(size=(100, 2))), 320, axis=0)
    >>> signals = loudness * rng.normal(size=(32_000, 2))
    >>> heard = signals + 0.5 * np.roll(signals[:, ::-1], 40, axis=0)
    >>> unmixer = ConvolutiveUnmixer(window=256, reference=0, sample_rate=16_000)
    >>> sources = np.concatenate([unmixer.process(chunk) for chunk in np.split(heard, 100)])
    >>> np.abs(np.corrcoef(sources[16_256:].T, signals[16_000:-256, 0])[:2, 2]).round(1)
    array([0., 1.])
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        window: int = 1024,
        hop: int | None = None,
        nu: float = 4.0,
        detect: bool = True,
        reference: int | None = None,
        stepsize: Stepsize | None = None,
        sample_rate: float | None = None,
    ) -> None:
        if sample_rate is not None and not 0 < sample_rate < np.inf:
            raise InputError(f"sample_rate must be above 0 samples a second, not {sample_rate}")
        shift = ConvolutiveUnmixing(n_components or 1, (), window, hop, nu, reference).shift
        steps = (stepsize or Stepsize.polynomial(POWER)).for_unit(UNIT_FRAMES * shift)
        if steps.seconds is not None:
            raise InputError("stepsize: an unmixer knows no times; give a half-life in samples")
        self.settings = ConvolutiveUnmixerSettings(n_components, window, hop, nu, detect, reference, steps, sample_rate)
        super().__init__(sample_rate, window)
        self.engine: Engine | None = None
        self._contest: Contest | None = None
        self._first: FloatArray | None = None
        self._collected = self._silent = 0

    def __repr__(self) -> str:
        stage = "waiting for first samples" if self.engine is None else f"{self.engine.model.n_components} sources"
        return f"ConvolutiveUnmixer({stage}, {self.count:,} samples)"

    @property
    def n_channels(self) -> int | None:
        """The number of channels, or None before the first chunk."""
        return None if self._first is None else self._first.shape[1]

    @property
    def count(self) -> int:
        """Samples so far."""
        if self.engine is None:
            return self._silent + self._collected
        return int(self.engine.counts[0] + self.engine.place[0])

    @property
    def params(self) -> ConvolutiveUnmixingParams:
        """What is known of the mixing; raises `InputError` before the first window is over."""
        engine = self._started()
        return engine.model.params(engine.sized, engine.theta)

    @property
    def unmixing(self) -> Any:
        """The complex unmixing matrices (F, K, D) at the `params.frequencies` (F,)."""
        real, imag = self.params.unmixing
        return real + 1j * imag

    @property
    def mixing(self) -> Any:
        """The complex mixing matrices (F, D, K): what each source, a column, sounds like at each channel."""
        real, imag = self.params.mixing
        return real + 1j * imag

    @property
    def mean_log_likelihood(self) -> float:
        """The running mean predictive log-likelihood in nats a sample; NaN before one was scored."""
        if self.engine is None or self.engine.counts[2] == 0:
            return float("nan")
        return float(self.engine.counts[3] / self.engine.counts[2])

    def process(self, chunk: Any) -> FloatArray:
        """Return the sources (n, K) of the n samples that came a window before the next chunk (n, D), and learn that.

        Raises `InputError` for a chunk that cannot be used, of which nothing is learned.
        """
        begin = perf_counter()
        records = as_records(chunk, self.n_channels)
        n_channels = records.shape[1]
        if self._first is None:
            self._model(n_channels).sized(n_channels)
            self._first = np.zeros((self.settings.window, n_channels))
        out, taken = np.zeros((len(records), self.settings.n_components or n_channels)), 0
        while taken < len(records):
            if self.engine is None:
                taken += self._collect(records[taken:])
            else:
                n = min(len(records) - taken, len(self.engine.begun) - int(self.engine.place[0]))
                part = slice(taken, taken + n)
                self._take(self.engine, records[part], out[part])
                taken += n
        self._took(perf_counter() - begin, len(records))
        return out

    def flush(self) -> FloatArray:
        """Return the sources (window, K) of the last samples; after them the signal is taken to be missing.

        Raises `InputError` before the first sample.
        """
        if self._first is None:
            raise InputError("nothing has been heard yet")
        frozen, self.frozen = self.frozen, True
        rest = self.process(np.full_like(self._first, np.nan))
        self.frozen = frozen
        return rest

    def _collect(self, records: FloatArray) -> int:
        """Keep the first samples, and start when they are a window that is not silent; return how many were taken."""
        assert self._first is not None
        n = min(len(records), len(self._first) - self._collected)
        self._first[self._collected : self._collected + n] = records[:n]
        self._collected += n
        if self._collected == len(self._first):
            self._collected = 0
            if still_channels(np.nan_to_num(self._first)).all():
                self._silent += len(self._first)
            else:
                self._start(self._first)
        return n

    def _start(self, first: FloatArray) -> None:
        n_channels = first.shape[1]
        engine = self.engine = begun(self._model(n_channels), first, self._silent)
        for hop in np.split(first, len(first) // len(engine.begun)):
            self._take(engine, hop, np.empty((len(hop), engine.model.n_components)))
        detail = f"{engine.model.n_components} sources from {n_channels} channels"
        self.events.append(Event(float(self.count), "start", detail))

    def _take(self, engine: Engine, records: FloatArray, out: FloatArray) -> None:
        """Write the sources (n, K) that are ready for (n, D) records of one hop; learn the hop when it is complete."""
        begin, hop = int(engine.place[0]), len(engine.begun)
        end = begin + len(records)
        out[:] = engine.ready[begin:end]
        engine.begun[begin:end] = records
        engine.place[0] = end % hop
        if end == hop:
            stepsize = None if self.frozen else self.settings.stepsize
            score = learn_hop(engine, engine.begun, stepsize)
            if stepsize is None:
                self._contest = None
            elif self.settings.detect:
                self._compare(engine, score, stepsize)

    def _compare(self, engine: Engine, score: float, stepsize: Stepsize) -> None:
        """Let a challenger learn the same hop, if there is one; it takes over if it has won."""
        if self._contest is None:
            self._contest = entered(engine)
            return
        won = decided(self._contest, engine, engine.begun, score, stepsize)
        if won:
            self.engine = self._contest.challenger
            detail = f"the mixing has changed before sample {self.count:,}"
            self.events.append(Event(float(self.count), "reset", detail))
        self._contest = self._contest if won is None else None

    def _model(self, n_channels: int) -> ConvolutiveUnmixing:
        of = self.settings
        return ConvolutiveUnmixing(of.n_components or n_channels, (), of.window, of.hop, of.nu, of.reference)

    def _started(self) -> Engine:
        if self.engine is None:
            needed = f"{self.settings.window:,} samples that are not silence"
            raise InputError(f"nothing is learned yet: {needed} are needed, and {self._collected:,} are there")
        return self.engine

    def save(self, path: str | Path) -> None:
        """Write the unmixer to one safetensors file, replaced whole; raises `OutsideError` if it cannot be written."""
        metadata = {
            "convolutive_unmixer": msgspec.json.encode(self.settings).decode(),
            "events": msgspec.json.encode(list(self.events)).decode(),
            "frozen": str(int(self.frozen)),
            "silent": str(self._silent),
            "collected": str(self._collected),
        }
        tensors: Tensors = {} if self._first is None else {"first": self._first}
        if self.engine is not None:
            tensors |= self.engine.arrays()
        if self._contest is not None:
            tensors |= self._contest.challenger.arrays("challenger.") | {"contest": self._contest.counts}
        write_snapshot(Path(path), metadata, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "ConvolutiveUnmixer":
        """Read an unmixer, which goes on as if it had never stopped; raises `InputError` for any other file."""
        metadata, tensors = read_snapshot(Path(path))
        try:
            settings = msgspec.json.decode(metadata["convolutive_unmixer"], type=ConvolutiveUnmixerSettings)
            unmixer = cls(**{name: getattr(settings, name) for name in settings.__struct_fields__})
            unmixer.events.extend(msgspec.json.decode(metadata["events"], type=list[Event]))
            unmixer.frozen = metadata["frozen"] == "1"
            unmixer._silent, unmixer._collected = int(metadata["silent"]), int(metadata["collected"])
            unmixer._first = tensors.pop("first", None)
            if tensors:
                unmixer.engine = unmixer._restored(tensors, "")
            if "contest" in tensors:
                unmixer._contest = Contest(unmixer._restored(tensors, "challenger."), tensors["contest"])
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InputError(f"{path}: not a convolutive unmixer that this version can read ({error})") from None
        return unmixer

    def _restored(self, tensors: Tensors, prefix: str) -> Engine:
        n_channels = tensors[f"{prefix}begun"].shape[1]
        engine = blank(self._model(n_channels), n_channels)
        for name, array in engine.arrays().items():
            array[:] = tensors[f"{prefix}{name}"]
        return engine
