"""The rows of each kind of output."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.learning.state import Event
from stream_em.sinks.interface import Rows
from stream_em.streams.records import Rejected


def log_likelihood_rows(places: Mapping[str, str | IntArray], log_likelihood: FloatArray) -> Rows:
    """Return where each record came from and its log-likelihood (n,)."""
    return {**places, "log_likelihood": log_likelihood}


def posterior_rows(places: Mapping[str, str | IntArray], log_likelihood: FloatArray, posterior: FloatArray) -> Rows:
    """Return the same with the posterior probabilities (n, K) of the components."""
    columns = {f"posterior_{k}": posterior[:, k] for k in range(posterior.shape[1])}
    return {**log_likelihood_rows(places, log_likelihood), **columns}


def source_rows(places: Mapping[str, str | IntArray], sources: FloatArray) -> Rows:
    """Return where each record came from and the sources (n, K) in it."""
    return {**places, **{f"source_{k + 1}": np.ascontiguousarray(sources[:, k]) for k in range(sources.shape[1])}}


def parameter_rows(count: float, params: Any, flat: bool) -> Rows:
    """Return one row with all parameters, nested, or with a column for each number if `flat`."""
    rows: Rows = {"count": [float(count)]}
    for name, value in params._asdict().items():
        if flat:
            for index in np.ndindex(value.shape):
                rows["_".join([name, *map(str, index)])] = [float(value[index])]
        else:
            rows[name] = [value.tolist()]
    return rows


def event_rows(events: Sequence[Event]) -> Rows:
    """Return the events: after how many records, what, and in words."""
    return {
        "count": [float(event.at) for event in events],
        "kind": [event.kind for event in events],
        "detail": [event.detail for event in events],
    }


def rejected_rows(rejected: Sequence[Rejected]) -> Rows:
    """Return where each unusable record came from, why it is unusable, and its bytes: as text, or else in base64.

    A message's key and headers are there too.
    """
    texts = [_as_text(record.content) for record in rejected]
    rows: Rows = {
        "place": [record.place for record in rejected],
        "reason": [record.reason for record in rejected],
        "text": texts,
        "base64": [
            _in_base64(record.content) if text is None else None for record, text in zip(rejected, texts, strict=True)
        ],
    }
    if any("offset" in record.place for record in rejected):
        rows["key"] = [_in_base64(record.key) for record in rejected]
        rows["headers"] = [[[name, _in_base64(value)] for name, value in record.headers] for record in rejected]
    return rows


def _in_base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _as_text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
