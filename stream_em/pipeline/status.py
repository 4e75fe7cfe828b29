"""What the world may know of a running pipeline: written by its loop, read by displays, metrics and health."""

import math
import time
from dataclasses import dataclass, field


@dataclass
class Status:
    """Numbers of a running pipeline; one thread writes, any may read."""

    records: int = 0
    """Records of the whole run, rejected ones included."""
    rejected: int = 0
    session_records: int = 0
    log_likelihood: float = math.nan
    """Mean of the last block in nats a record, each record scored before it was learned."""
    mean_log_likelihood: float = math.nan
    """Running mean of the whole run."""
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
