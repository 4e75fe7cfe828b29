"""What the codec of a message format must do."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stream_em.arrays import FloatArray, IntArray


class Unreadable(NamedTuple):
    """A message, or one record of it, that could not be used: its index among the messages given, and why.

    The reason does not say where the message was.
    """

    message: int
    reason: str


class Decoded(NamedTuple):
    """The usable records of some messages, in their order, and what could not be used.

    `values` is (n, d) float64, C-ordered and writeable, NaN where a value is missing, never above 1e100 in magnitude.
    `message` (n,) says which message each record came from, `record` (n,) its number inside that message.
    """

    values: FloatArray
    message: IntArray
    record: IntArray
    unreadable: tuple[Unreadable, ...]


class Codec(Protocol):
    """One format, both ways; `fields` are () until known, if none were asked for.

    Then the first message that is readable with all its own fields, and has any, decides; messages before it are
    unreadable.
    """

    fields: tuple[str, ...]
    several: bool
    """Whether a message may hold several records."""

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the records of all messages; a message that is wrong spoils no other.

        Raises `OutsideError` and `InputError` for a schema registry only: what is wrong with it is no message's fault.
        """
        ...

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Return messages that decode to these (n, d) records, NaN as what the format calls missing.

        Raises `InputError` for values or names that the format cannot hold.
        """
        ...
