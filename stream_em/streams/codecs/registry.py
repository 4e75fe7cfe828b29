"""A schema registry over HTTP, as Confluent's, Karapace's and Redpanda's speak."""

import base64
import json
import time
import urllib.parse
from typing import Any

from stream_em.errors import InputError, OutsideError

MOST_BYTES = 1 << 20
"""Of one answer."""
REMEMBERED_SECONDS = 60.0
"""So long the registry is not asked again for a schema that it does not have."""

_MOST_REMEMBERED = 10_000
_LARGEST_ID = (1 << 31) - 1
_TYPE = "application/vnd.schemaregistry.v1+json"


class NoSchemaError(InputError):
    """There is no usable schema with this id; that is a matter of the messages that name it."""


class SchemaRegistry:
    """A client of the registry at an http or https URL; one thread at a time may use it.

    Every method raises `OutsideError` if the registry cannot be reached, refuses the user or fails, and `InputError`
    if what answers is no registry.
    """

    def __init__(self, url: str, user: str | None = None, password: str | None = None, timeout: float = 10.0) -> None:
        if "@" in url:
            raise InputError("schema registry: its URL holds a user or a password; give them as settings of their own")
        try:
            parts = urllib.parse.urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise InputError(f"schema registry {url!r}: is no URL of one; it looks like http://host:8081")
        if password is not None and not user:
            raise InputError("schema registry: a password needs a user")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Accept": f"{_TYPE}, application/json", "Content-Type": _TYPE}
        if user:
            pair = base64.b64encode(f"{user}:{password or ''}".encode())
            self._headers["Authorization"] = f"Basic {pair.decode()}"
        self._schemas: dict[int, Any] = {}
        self._missing: dict[int, tuple[float, str]] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def __str__(self) -> str:
        return f"schema registry {self._url}"

    def schema(self, id: int) -> Any:
        """Return an Avro schema as JSON gives it, asked for once; raises `NoSchemaError` if there is none of this id.

        That is remembered for a minute.
        """
        if id in self._schemas:
            return self._schemas[id]
        until, reason = self._missing.get(id, (0.0, ""))
        if time.monotonic() < until:
            raise NoSchemaError(reason)
        try:
            self._schemas[id] = self._fetched(id)
        except NoSchemaError as error:
            if len(self._missing) >= _MOST_REMEMBERED:
                self._missing.clear()
            self._missing[id] = (time.monotonic() + REMEMBERED_SECONDS, str(error))
            raise
        return self._schemas[id]

    def register(self, subject: str, schema: Any) -> int:
        """Return the id of an Avro schema under a subject, new or not; raises `InputError` if it is refused."""
        text = json.dumps(schema)
        if (subject, text) not in self._ids:
            path = f"/subjects/{urllib.parse.quote(subject, safe='')}/versions"
            status, answer = self._ask(path, json.dumps({"schema": text}).encode())
            if status in (409, 422) and isinstance(answer, dict):
                what = _one_line(answer.get("message"))
                raise InputError(f"{self}: refuses the schema for subject {subject!r} ({what}); choose another subject")
            id = answer.get("id") if status == 200 and isinstance(answer, dict) else None
            if type(id) is not int:
                raise self._no_registry(status)
            self._ids[subject, text] = id
        return self._ids[subject, text]

    def _fetched(self, id: int) -> Any:
        if id > _LARGEST_ID:
            raise NoSchemaError(f"schema {id} cannot be: ids end at {_LARGEST_ID}; check what wrote the message")
        status, answer = self._ask(f"/schemas/ids/{id}")
        if status == 404 and isinstance(answer, dict):
            raise NoSchemaError(f"{self} has no schema {id}; check what wrote the message, and which registry it uses")
        if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise self._no_registry(status)
        kind = answer.get("schemaType") or "AVRO"
        if kind != "AVRO":
            raise NoSchemaError(f"schema {id} is {_one_line(kind)}, not Avro; write Avro, or another format")
        if answer.get("references"):
            raise NoSchemaError(f"schema {id} refers to other schemas; register it as a whole")
        try:
            return json.loads(answer["schema"])
        except (ValueError, RecursionError):
            raise NoSchemaError(f"schema {id} is broken: it is no JSON; register it again") from None

    def _ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Return the status and what JSON the answer is, None if it is none."""
        import http.client
        import urllib.request

        # No handler of redirects or errors: none may send the password elsewhere, and every status comes back here.
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
            opener.add_handler(handler())
        request = urllib.request.Request(self._url + path, body, self._headers)  # noqa: S310 - http or https only
        deadline = time.monotonic() + self._timeout
        content = b""
        try:
            with opener.open(request, timeout=self._timeout) as response:
                status = response.status
                while (more := response.read1(MOST_BYTES + 1 - len(content))) and time.monotonic() < deadline:
                    content += more
        except (OSError, http.client.HTTPException, ValueError) as error:
            what = _one_line(getattr(error, "reason", None) or error)
            raise OutsideError(f"{self}: cannot be reached ({what}); check the URL, and whether it runs") from None
        if more and len(content) <= MOST_BYTES:
            raise OutsideError(f"{self}: took more than {self._timeout:g} s to answer; check it")
        if status in (401, 403):
            raise OutsideError(f"{self}: refuses access (HTTP {status}); check user and password")
        if status == 429 or status >= 500:
            raise OutsideError(f"{self}: fails (HTTP {status}); look at its log, or try again later")
        if len(content) > MOST_BYTES:
            raise InputError(f"{self}: answered more than {MOST_BYTES >> 20} MB; check the URL")
        try:
            return status, json.loads(content)
        except (ValueError, RecursionError):
            return status, None

    def _no_registry(self, status: int) -> InputError:
        return InputError(f"{self}: does not answer as a registry does (HTTP {status}); check the URL")


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:200]
