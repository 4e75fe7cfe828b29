"""How to reach a broker, in the words of each client library."""

import ssl
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream_em.errors import InputError

RECONNECT_MILLISECONDS = 1000
METADATA_MILLISECONDS = 5000
REQUEST_MILLISECONDS = 5000
"""With the clients' defaults records flow again only half a minute after a broker is back."""

FORBIDDEN = ("plugin.", "ssl.engine.", "sasl.kerberos.kinit.cmd", "metadata.broker.list", "kafka_client", "selector")
ClientName = Literal["kafka-python", "confluent-kafka"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Secret = Annotated[str | None, Meta(description="a secret: write ${NAME}", extra={"secret": True})]
"""A value that is taken from the environment only."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach a broker."""

    bootstrap_servers: Annotated[str | list[str], Meta(description="host:port, or a list of these")] = "127.0.0.1:9092"
    client: Annotated[ClientName, Meta(description="confluent-kafka is faster and an extra")] = "kafka-python"
    security_protocol: Annotated[SecurityProtocol, Meta(description="TLS and passwords or not")] = "PLAINTEXT"
    sasl_mechanism: Annotated[Mechanism | None, Meta(description="how the password is sent")] = None
    sasl_username: Annotated[str | None, Meta(description="the user")] = None
    sasl_password: Secret = None
    ssl_cafile: Annotated[str | None, Meta(description="PEM file of the authority that signed the broker's key")] = None
    ssl_certfile: Annotated[str | None, Meta(description="PEM file of the client's certificate")] = None
    ssl_keyfile: Annotated[str | None, Meta(description="PEM file of the client's key")] = None
    ssl_key_password: Secret = None
    ssl_check_hostname: Annotated[bool, Meta(description="whether the broker's certificate must name its host")] = True
    connect_timeout: Annotated[float, Meta(gt=0, le=3600, description="seconds to wait for a broker at the start")] = 30
    options: Annotated[
        dict[str, str | int | float | bool], Meta(description="further options, in the client's own words")
    ] = {}

    def __post_init__(self) -> None:
        """Raise `InputError` for settings that contradict each other."""
        if not self.servers:
            raise InputError("bootstrap_servers: name at least one, as host:port")
        with_password = self.security_protocol.startswith("SASL")
        if with_password and not (self.sasl_mechanism and self.sasl_username and self.sasl_password):
            raise InputError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password"
            )
        if not with_password and (self.sasl_mechanism or self.sasl_username or self.sasl_password):
            raise InputError("sasl_username: set security_protocol to SASL_SSL or SASL_PLAINTEXT, or leave sasl_… out")

    @property
    def servers(self) -> list[str]:
        """The broker's addresses."""
        servers = self.bootstrap_servers
        return [part.strip() for part in (servers.split(",") if isinstance(servers, str) else servers) if part.strip()]

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.security_protocol.endswith("SSL")

    def for_kafka_python(self, taken: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the arguments of a client of kafka-python.

        Raises `InputError` for an option that is in `taken`, and for files of ssl_… that cannot be used.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "client_id": "stream_em",
            "security_protocol": self.security_protocol,
            "reconnect_backoff_max_ms": RECONNECT_MILLISECONDS,
            "metadata_max_age_ms": METADATA_MILLISECONDS,
            "request_timeout_ms": REQUEST_MILLISECONDS,
            "bootstrap_timeout_ms": int(1000 * self.connect_timeout),
        }
        if self.sasl_mechanism is not None:
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
        if self.encrypted:
            self._check_files()
            arguments["ssl_check_hostname"] = self.ssl_check_hostname
            arguments["ssl_cafile"] = self.ssl_cafile
            arguments["ssl_certfile"] = self.ssl_certfile
            arguments["ssl_keyfile"] = self.ssl_keyfile
            arguments["ssl_password"] = self.ssl_key_password
        return self._with_options(arguments, taken)

    def for_confluent(self, taken: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the configuration of a client of confluent-kafka; raises `InputError` likewise."""
        arguments: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.servers),
            "client.id": "stream_em",
            "security.protocol": self.security_protocol,
            "reconnect.backoff.max.ms": RECONNECT_MILLISECONDS,
            "topic.metadata.refresh.interval.ms": METADATA_MILLISECONDS,
        }
        if self.sasl_mechanism is not None:
            arguments["sasl.mechanism"] = self.sasl_mechanism
            arguments["sasl.username"] = self.sasl_username
            arguments["sasl.password"] = self.sasl_password
        if self.encrypted:
            self._check_files()
            arguments["ssl.endpoint.identification.algorithm"] = "https" if self.ssl_check_hostname else "none"
            files = {
                "ssl.ca.location": self.ssl_cafile,
                "ssl.certificate.location": self.ssl_certfile,
                "ssl.key.location": self.ssl_keyfile,
                "ssl.key.password": self.ssl_key_password,
            }
            arguments |= {name: value for name, value in files.items() if value is not None}
        return self._with_options(arguments, taken)

    def _check_files(self) -> None:
        """Raise `InputError` for a file that is not there or not PEM: the clients would go on trying to connect."""
        files = {name: getattr(self, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
        for name, path in files.items():
            try:
                if path is not None:
                    with open(path, "rb") as file:
                        file.read(1)
            except OSError as error:
                raise InputError(f"kafka.{name}: {path}: cannot be read: {error.strerror}; name a PEM file") from None
        context, name = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ssl_cafile"
        try:
            if self.ssl_cafile is not None:
                context.load_verify_locations(self.ssl_cafile)
            name = "ssl_certfile"
            if self.ssl_certfile is not None:
                # Without a password it would ask for one on the terminal.
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, self.ssl_key_password or "")
        except ssl.SSLError as error:
            with_key = " with ssl_keyfile and ssl_key_password" if name == "ssl_certfile" else ""
            raise InputError(
                f"kafka.{name}: {files[name]}: cannot be used{with_key}: {error.reason or error}; name a PEM file"
            ) from None

    def _with_options(self, arguments: dict[str, Any], taken: frozenset[str]) -> dict[str, Any]:
        for name in self.options:
            if name.startswith(FORBIDDEN):
                raise InputError(f"options.{name}: loads code or runs a program, or has a key of its own; remove it")
            if name in taken or (name in arguments and "ms" not in name):
                raise InputError(f"options.{name}: is set by stream_em itself; remove it")
        return {**arguments, **self.options}
