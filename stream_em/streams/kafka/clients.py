"""The client that a connection asks for."""

from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Client


def open_client(connection: Connection, group: str | None = None, isolation_level: str = "read_committed") -> Client:
    """Connect; raises `BrokerAwayError` if no broker answers in time, `OutsideError` if it refuses."""
    if connection.client == "confluent-kafka":
        from stream_em.streams.kafka.confluent import ConfluentClient

        return ConfluentClient(connection, group, isolation_level)
    from stream_em.streams.kafka.kafkapython import KafkaPythonClient

    return KafkaPythonClient(connection, group, isolation_level)
