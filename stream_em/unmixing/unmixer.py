"""Signals told apart while they arrive: a chunk in, its sources out at once."""

from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.learning.snapshot import Tensors, read_snapshot, write_snapshot
from stream_em.learning.state import Event
from stream_em.models.signal_unmixing import SignalUnmixing, Sources
from stream_em.models.unmixing_params import MixtureUnmixingParams, SignalUnmixingParams
from stream_em.stepsize import Stepsize
from stream_em.streams.records import as_records
from stream_em.unmixing.engine import (
    KEPT_WINDOWS,
    WINDOW_BLOCKS,
    Engine,
    begun,
    heard,
    latest,
    learned,
    restored,
    still_channels,
    until_window_ends,
)
from stream_em.unmixing.fitting import numerical_rank
from stream_em.unmixing.live import Live

USUAL_POWER = {"block": 0.9, "sample": 0.8, "mixture": 0.8}
"""Of the stepsize: without blocks EM moves less in a step, so its steps must not become small so soon."""
WARMUP_PER_CHANNEL = {"block": 4, "sample": 40, "mixture": 40}
"""Samples that the first unmixing is learned from, at least. Blocks are kept and gone over again; samples are not."""
BLOCK_SECONDS, SHORTEST_BLOCK, DEFAULT_BLOCK = 0.01, 16, 160


class UnmixerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an unmixer works; the words are those of `Unmixer`."""

    n_components: int | None
    sources: Sources
    block: int
    nu: float
    gate: float | None
    detect: bool
    reference: int | None
    stepsize: Stepsize
    sample_rate: float | None
    n_gaussians: int = 3


class Unmixer(Live):
    """Tells superimposed signals apart while they arrive, by online EM: no learning rate, and no delay.

    `process` takes chunks (n, D) of any length and returns the sources (n, K) of each, by what was learned before it.
    There are `n_components` sources; None: as many as the channels of the first moments allow. A source's loudness is
    shared by `block` samples (default: 10 ms if `sample_rate` is given, at least 16; else 160), or each sample's own
    (`sources="sample"`); or they are mixtures of `n_gaussians` Gaussians (`sources="mixture"`): what is not loud and
    quiet in turn, such as tones, carriers and squares. Blocks of more than `gate` times the usual power are taken for
    artefacts and not learned (None: all are). With `detect` a change of the mixing is noticed and learned anew. Sources
    come out as loud as they are at channel `reference`, or, if None, over all channels (root mean square); their order
    and sign never change but at a reset, which `events` tells of. NaN is a missing value. Raises `InputError` for
    impossible settings.

    >>> rng = np.random.default_rng(0)
    >>> loudness = np.repeat(np.exp(rng.normal(size=(200, 2))), 160, axis=0)
    >>> signals = loudness * rng.normal(size=(32_000, 2))
    >>> unmixer = Unmixer(sample_rate=16_000)
    >>> for chunk in np.split(signals @ [[1.0, 0.4], [0.7, 1.0]], 100):
    ...     sources = unmixer.process(chunk)
    >>> np.abs(np.corrcoef(sources.T, signals[-320:].T)[:2, 2:]).max(axis=0).round(2)
    array([1., 1.])
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        sources: Sources = "block",
        block: int | None = None,
        nu: float = 4.0,
        gate: float | None = 10.0,
        detect: bool = True,
        reference: int | None = None,
        n_gaussians: int = 3,
        stepsize: Stepsize | None = None,
        sample_rate: float | None = None,
    ) -> None:
        if sample_rate is not None and not 0 < sample_rate < np.inf:
            raise InputError(f"sample_rate must be above 0 samples a second, not {sample_rate}")
        if block is None:
            block = max(SHORTEST_BLOCK, round(BLOCK_SECONDS * sample_rate)) if sample_rate else DEFAULT_BLOCK
        SignalUnmixing(
            1 if n_components is None else n_components, (), sources, block, nu, gate, reference, n_gaussians
        )
        steps = stepsize or Stepsize.polynomial(USUAL_POWER[sources])
        self.settings = UnmixerSettings(
            n_components,
            sources,
            block,
            nu,
            gate,
            detect,
            reference,
            steps.for_unit(block),
            sample_rate,
            n_gaussians,
        )
        if steps.seconds is not None:
            raise InputError("stepsize: an unmixer knows no times; give a half-life in samples")
        super().__init__(sample_rate, 0)
        self.engine: Engine | None = None
        self._waiting: list[FloatArray] = []
        self._silent = 0

    def _model(self, n_components: int) -> SignalUnmixing:
        of = self.settings
        return SignalUnmixing(n_components, (), of.sources, of.block, of.nu, of.gate, of.reference, of.n_gaussians)

    def __repr__(self) -> str:
        stage = "waiting for first samples" if self.engine is None else f"{self.engine.model.n_components} sources"
        return f"Unmixer({stage}, {self.count:,} samples)"

    @property
    def n_channels(self) -> int | None:
        """The number of channels, or None before the first chunk."""
        if self.engine is not None:
            return int(self.engine.sized.n_features)
        return self._waiting[0].shape[1] if self._waiting else None

    @property
    def count(self) -> int:
        """Samples so far."""
        return int(self.engine.counts[0]) if self.engine is not None else self._silent + sum(map(len, self._waiting))

    @property
    def params(self) -> SignalUnmixingParams | MixtureUnmixingParams:
        """What is known of the mixing; raises `InputError` before the first moments are over."""
        engine = self._started()
        return engine.model.params(engine.sized, engine.theta)

    @property
    def unmixing(self) -> FloatArray:
        """The unmixing matrix (K, D): sources = unmixing (channels - location)."""
        return self.params.unmixing

    @property
    def mixing(self) -> FloatArray:
        """The mixing matrix (D, K): what each source sounds like at each channel."""
        return self.params.mixing

    @property
    def mean_log_likelihood(self) -> float:
        """The running mean predictive log-likelihood in nats a sample; NaN before one was scored."""
        if self.engine is None or self.engine.counts[1] == 0:
            return float("nan")
        return float(self.engine.counts[2] / self.engine.counts[1])

    @property
    def unsettled(self) -> float:
        """How far W is from its fixed point: root mean square of w_k' V_k w_l over k != l; 0 when it has converged."""
        engine = self._started()
        return engine.model.off_diagonal(engine.sized, engine.theta, engine.s)

    def process(self, chunk: Any) -> FloatArray:
        """Return the sources (n, K) of the next chunk (n, D) by what was learned before each sample, then learn it.

        During the first moments, which give the first unmixing, the channels themselves come out. If channels depend on
        each other there are fewer sources than channels; then the last columns are 0. Raises `InputError` for a chunk
        that cannot be used, of which nothing is learned.
        """
        begin = perf_counter()
        records = as_records(chunk, self.n_channels)
        n, D = records.shape
        width = self.settings.n_components or D
        if width > D:
            raise InputError(f"n_components must be at most the {D} channels, not {width}")
        out, taken = np.zeros((n, width)), 0
        if self.engine is None:
            taken = self._collect(records)
            out[:taken] = np.nan_to_num(records[:taken, :width])
        if self.engine is not None:
            self._unmix(records[taken:], out[taken:])
        self._took(perf_counter() - begin, n)
        return out

    def _unmix(self, records: FloatArray, out: FloatArray) -> None:
        """Write the sources of (n, D) records into the first columns of `out`, window by window."""
        done = 0
        while done < len(records):
            engine, settings = self._started(), self.settings
            part = slice(done, done + min(len(records) - done, until_window_ends(engine)))
            done, K = part.stop, engine.model.n_components
            sources = out[part] if out.shape[1] == K else np.empty((part.stop - part.start, K))
            if self.frozen:
                heard(engine, records[part], sources)
            else:
                events = learned(engine, settings.stepsize, settings.detect, records[part], sources)
                self.events += events
                if out.shape[1] > K and any(event.kind == "channel back" for event in events):
                    self._start(latest(engine, KEPT_WINDOWS))
            if out.shape[1] > K:
                out[part, :K] = sources

    def _collect(self, records: FloatArray) -> int:
        """Keep the first samples that are not silence, and start when there are enough; return how many were taken."""
        taken = 0
        while self.engine is None and taken < len(records):
            needed = self._needed(records.shape[1]) - sum(map(len, self._waiting))
            self._waiting.append(records[taken : taken + needed].copy())
            taken += len(self._waiting[-1])
            if len(self._waiting[-1]) == needed:
                first, self._waiting = np.concatenate(self._waiting), []
                if still_channels(first).all():
                    self._silent += len(first)
                else:
                    self._start(first)
        return taken

    def _start(self, first: FloatArray) -> None:
        """Learn the first (n, D) samples, or, when there are more sources than before, the latest."""
        D, allowed = first.shape[1], numerical_rank(first)
        K = self.settings.n_components or allowed
        count = self.count if self.engine is not None else self._silent + len(first)
        self.engine = begun(self._model(K), first, count)
        self.events.append(Event(float(count), "start", f"{K} sources from {D} channels"))
        if allowed < K:
            detail = f"only {allowed} of {K} directions vary: channels are silent or depend on each other"
            self.events.append(Event(float(count), "rank", detail))

    def _started(self) -> Engine:
        if self.engine is None:
            needed, there = self._needed(self.n_channels or 1), f"{self.count:,} are there"
            if self._silent:
                there = f"all channels have stood still over the {self._silent:,} that came"
            raise InputError(f"nothing is learned yet: {needed:,} samples are needed, and {there}")
        return self.engine

    def _needed(self, n_channels: int) -> int:
        """Return how many samples give the first unmixing: whole windows, and enough for so many channels."""
        window = WINDOW_BLOCKS * self.settings.block
        return window * -(-WARMUP_PER_CHANNEL[self.settings.sources] * n_channels // window)

    def save(self, path: str | Path) -> None:
        """Write the unmixer to one safetensors file, replaced whole; raises `OutsideError` if it cannot be written."""
        metadata = {
            "unmixer": msgspec.json.encode(self.settings).decode(),
            "events": msgspec.json.encode(list(self.events)).decode(),
            "frozen": str(int(self.frozen)),
            "silent": str(self._silent),
        }
        tensors: Tensors = {f"waiting.{i:06}": part for i, part in enumerate(self._waiting)}
        if self.engine is not None:
            tensors = self.engine.arrays()
            metadata["n_components"] = str(self.engine.model.n_components)
        write_snapshot(Path(path), metadata, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "Unmixer":
        """Read an unmixer, which goes on as if it had never stopped; raises `InputError` for any other file."""
        metadata, tensors = read_snapshot(Path(path))
        try:
            settings = msgspec.json.decode(metadata["unmixer"], type=UnmixerSettings)
            unmixer = cls(**{name: getattr(settings, name) for name in settings.__struct_fields__})
            unmixer.events.extend(msgspec.json.decode(metadata["events"], type=list[Event]))
            unmixer.frozen, unmixer._silent = metadata["frozen"] == "1", int(metadata["silent"])
            if "n_components" in metadata:
                unmixer.engine = restored(unmixer._model(int(metadata["n_components"])), tensors)
            else:
                unmixer._waiting = [tensors[name] for name in sorted(tensors)]
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InputError(f"{path}: not an unmixer that this version can read ({error})") from None
        return unmixer
