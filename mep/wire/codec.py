"""msgpack in and out: bounded, typed, with one error.

Every link message is a frozen, tagged :class:`msgspec.Struct`; a decoder knows the closed union
of what its peer may say. Anything else raises :class:`WireError`, and the link is closed.
"""

from typing import Any, Generic, TypeVar

import msgspec

M = TypeVar("M")


class WireError(ValueError):
    """A peer sent bytes that are no message of this protocol."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of every link message: an array on the wire, ``[tag, field, field, ...]``."""


_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The wire form of one message."""
    return _encoder.encode(message)


class Decoder(Generic[M]):
    """Decodes one closed union of messages.

    `accepts` is the union type, for instance ``ManagerHello | Started | Refused``.
    """

    def __init__(self, accepts: Any, max_bytes: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(accepts)
        self._max_bytes = max_bytes

    def decode(self, data: bytes) -> M:
        """The message in `data`.

        Raises:
            WireError: too large, not msgpack, text that is no UTF-8, unknown tag, missing
                field or wrong type.
        """
        if len(data) > self._max_bytes:
            raise WireError(f"message of {len(data)} bytes; at most {self._max_bytes} are accepted")
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(f"not a message of this protocol: {error}") from error
