"""Metrics and health: what a scraper and a supervisor see."""

import socket
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import stream_em as sem
from stream_em.config import Serve
from stream_em.pipeline.status import Status
from stream_em.service.server import serving


def get(address, path):
    try:
        with urllib.request.urlopen(address + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_what_the_status_says():
    status = Status(records=1000, rejected=3, log_likelihood=-2.5, mean_log_likelihood=-2.75, lag=(77, "bytes"))
    status.left_out = 12.0
    status.blocks, status.block_seconds, status.last_snapshot = 4, 0.5, time.time() - 60
    with serving(status, Serve(port=0)) as address:
        assert address.startswith("http://127.0.0.1:")
        code, text = get(address, "/metrics")
    assert code == 200
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    values = {name: sample.value for name, sample in samples.items()}
    assert values["stream_em_records_total"] == 1000
    assert values["stream_em_bad_records_total"] == 3
    assert values["stream_em_left_out_records_total"] == 12
    assert values["stream_em_log_likelihood"] == -2.5
    assert values["stream_em_mean_log_likelihood"] == -2.75
    assert (values["stream_em_lag"], samples["stream_em_lag"].labels) == (77, {"unit": "bytes"})
    assert 60 <= values["stream_em_snapshot_age_seconds"] < 90
    assert values["stream_em_block_seconds_count"] == 4
    assert values["stream_em_block_seconds_sum"] == 0.5


def test_ready_means_progress_where_there_is_input():
    status = Status()
    with serving(status, Serve(port=0, stalled_after=0.2)) as address:
        assert get(address, "/healthz") == (200, "ok\n")
        assert get(address, "/readyz") == (503, "not running\n")
        status.running = True
        status.last_progress = time.monotonic()
        assert get(address, "/readyz") == (200, "ok\n")
        status.last_progress -= 100
        assert get(address, "/readyz")[0] == 200, "an idle source is ready"
        status.lag = (5, "records")
        code, text = get(address, "/readyz")
        assert code == 503
        assert "no progress for 100 s with 5 records waiting" in text
        status.last_progress = time.monotonic()
        assert get(address, "/readyz")[0] == 200
        assert get(address, "/secret")[0] == 404


def test_a_port_in_use_is_said_with_the_mend():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(sem.OutsideError, match=f"127.0.0.1:{port}.*choose another port"),
            serving(Status(), Serve(port=port)),
        ):
            pass
