"""What a topic may be called."""

import re

from stream_em.errors import InputError
from stream_em.streams.cells import shortened

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_topic(name: str, key: str) -> None:
    """Raise `InputError`, beginning with `key`, for a name that no broker takes."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InputError(
            f"{key}: {shortened(name)} cannot be the name of a topic; use up to 249 letters a-z, A-Z, digits, '.', '_'"
            " and '-', and neither '.' nor '..' alone"
        )
