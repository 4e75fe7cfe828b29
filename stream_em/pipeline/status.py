"""What the world may know of a running pipeline: written by its loop, read by displays, metrics and health."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Status:
    """Numbers of a running pipeline; one thread writes, any may read."""

    records: int = 0
    """Records of the whole run, rejected ones included."""
    rejected: int = 0
    session_records: int = 0
    session_rejected: int = 0
    log_likelihood: float = math.nan
    """Mean of the last block in nats a record, each record scored before it was learned."""
    mean_log_likelihood: float = math.nan
    """Running mean of the whole run."""
    left_out: float = 0.0
    """Records of the whole run that were scored, but not learned: see `robust`."""
    lag: tuple[int, str] | None = None
    trouble: str | None = None
    """What keeps the source from giving records, if anything."""
    blocks: int = 0
    block_seconds: float = 0.0
    """Summed time of scoring, learning and writing blocks."""
    snapshots: int = 0
    snapshot_seconds: float = 0.0
    last_snapshot: float | None = None
    """Seconds since 1970."""
    started: float = field(default_factory=time.monotonic)
    last_progress: float = field(default_factory=time.monotonic)
    running: bool = False

    @property
    def records_per_second(self) -> float:
        """Mean rate of this session."""
        return self.session_records / max(time.monotonic() - self.started, 1e-9)

    def unready(self, stalled_after: float) -> str | None:
        """Say why the pipeline is not ready, or None: it runs, and where there is input there is progress."""
        if not self.running:
            return "not running"
        silent = time.monotonic() - self.last_progress
        if silent > stalled_after and self.trouble is not None:
            return f"no progress for {silent:.0f} s: {self.trouble}"
        if silent > stalled_after and self.lag is not None and self.lag[0] > 0:
            return f"no progress for {silent:.0f} s with {self.lag[0]:,} {self.lag[1]} waiting"
        return None


_SUMMED = ("session_records", "session_rejected", "blocks", "block_seconds", "snapshots", "snapshot_seconds")


class GatheredStatus(Status):
    """The numbers of several pipelines that come and go, as one; its records are those that this process took."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: Sequence[Status] = ()
        self._past = dict.fromkeys(_SUMMED, 0.0)

    def gather(self, parts: Sequence[Status]) -> None:
        """Take the numbers of the pipelines that there are now."""
        self._parts = parts
        for name in _SUMMED:
            total = self._past[name] + sum(getattr(part, name) for part in parts)
            setattr(self, name, type(getattr(self, name))(total))
        self.records, self.rejected = self.session_records, self.session_rejected
        self.left_out = sum(part.left_out for part in parts)
        self.log_likelihood = _mean(parts, "log_likelihood")
        self.mean_log_likelihood = _mean(parts, "mean_log_likelihood")
        lags = [part.lag for part in parts if part.lag is not None]
        self.lag = (sum(lag for lag, _ in lags), lags[0][1]) if lags else None
        self.trouble = next((part.trouble for part in parts if part.trouble is not None), None)
        self.last_snapshot = min((part.last_snapshot for part in parts if part.last_snapshot is not None), default=None)
        self.last_progress = max((part.last_progress for part in parts), default=time.monotonic())

    def keep(self, part: Status) -> None:
        """Keep the sums of a pipeline that has ended."""
        for name in _SUMMED:
            self._past[name] += getattr(part, name)

    def unready(self, stalled_after: float) -> str | None:
        """Say why one of the pipelines is not ready, or None."""
        if not self.running:
            return "not running"
        reasons = (part.unready(stalled_after) for part in self._parts)
        return next((reason for reason in reasons if reason is not None), None)


def _mean(parts: Sequence[Status], name: str) -> float:
    """Return the mean of a number over the records of all parts that have it."""
    known = [(part.records, getattr(part, name)) for part in parts if not math.isnan(getattr(part, name))]
    total = sum(records for records, _ in known)
    return sum(records * value for records, value in known) / total if total else math.nan
