"""Prometheus metrics of a pipeline, read from its status at each scrape."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from stream_em.pipeline.status import Status


class StatusCollector(Collector):
    """The metrics of one pipeline."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        status = self._status
        yield CounterMetricFamily("stream_em_records", "Records of the whole run.", status.records)
        yield CounterMetricFamily("stream_em_bad_records", "Records that could not be used.", status.rejected)
        yield CounterMetricFamily(
            "stream_em_left_out_records", "Records scored but not learned: too surprising.", status.left_out
        )
        yield GaugeMetricFamily(
            "stream_em_log_likelihood",
            "Mean predictive log-likelihood of the last block in nats a record.",
            status.log_likelihood,
        )
        yield GaugeMetricFamily(
            "stream_em_mean_log_likelihood",
            "Running mean predictive log-likelihood in nats a record.",
            status.mean_log_likelihood,
        )
        yield GaugeMetricFamily(
            "stream_em_source_up",
            "Whether the source can be reached: 0 while a broker is away.",
            float(status.trouble is None),
        )
        if status.lag is not None:
            lag = GaugeMetricFamily("stream_em_lag", "What waits in the source.", labels=["unit"])
            lag.add_metric([status.lag[1]], status.lag[0])
            yield lag
        if status.last_snapshot is not None:
            yield GaugeMetricFamily(
                "stream_em_snapshot_age_seconds",
                "Seconds since the last snapshot.",
                max(0.0, time.time() - status.last_snapshot),
            )
        yield SummaryMetricFamily(
            "stream_em_block_seconds",
            "Time to score, learn and write a block.",
            count_value=status.blocks,
            sum_value=status.block_seconds,
        )
        yield SummaryMetricFamily(
            "stream_em_snapshot_seconds",
            "Time to write a snapshot.",
            count_value=status.snapshots,
            sum_value=status.snapshot_seconds,
        )


def registry_of(status: Status) -> CollectorRegistry:
    """Return a registry with the metrics of one pipeline."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    return registry
