"""The HTTP server: /metrics, /healthz (the process lives), /readyz (the pipeline makes progress)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream_em.config import Serve
from stream_em.errors import OutsideError
from stream_em.pipeline.status import Status
from stream_em.service.metrics import registry_of

_PLAIN = "text/plain; charset=utf-8"
_SLOWEST_CLIENT_SECONDS = 10


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def serving(status: Status, settings: Serve) -> Iterator[str]:
    """Serve a pipeline's status meanwhile; gives the address. Raises `OutsideError` if it cannot listen there."""
    registry = registry_of(status)

    class Handler(BaseHTTPRequestHandler):
        timeout = _SLOWEST_CLIENT_SECONDS
        server_version, sys_version = "stream_em", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path == "/healthz":
                self._answer(200, b"ok\n")
            elif path == "/readyz":
                reason = status.unready(settings.stalled_after)
                self._answer(503 if reason else 200, f"{reason or 'ok'}\n".encode())
            else:
                self._answer(404, b"there are /metrics, /healthz and /readyz\n")

        def _answer(self, code: int, content: bytes, kind: str = _PLAIN) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: scrapes come every few seconds."""

    try:
        server = _Server((settings.host, settings.port), Handler)
    except OSError as error:
        raise OutsideError(
            f"serve: cannot listen at {settings.host}:{settings.port}: {error.strerror or error}; choose another port"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="serve", daemon=True)
    thread.start()
    try:
        yield f"http://{settings.host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
