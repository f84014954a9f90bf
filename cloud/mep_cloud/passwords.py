"""Passwords of the relay's own users: scrypt, as RFC 7914 and OWASP advise for logins."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from typing import Final

_LOG_N: Final = 15
_R: Final = 8
_P: Final = 3
_MEMORY: Final = 128 * 1024 * 1024
_SALT: Final = 16
SHORTEST: Final = 12
LONGEST: Final = 1024
_AT_ONCE: Final = asyncio.Semaphore(2)
"""Each takes 32 MiB and a tenth of a second of a processor, and anybody may try."""


def hashed(password: str) -> str:
    """What is stored: ``scrypt$log2(n)$r$p$salt$key``."""
    salt = secrets.token_bytes(_SALT)
    key = _key(password, salt, _LOG_N, _R, _P)
    return f"scrypt${_LOG_N}${_R}${_P}${_text(salt)}${_text(key)}"


def fits(password: str, stored: str) -> bool:
    """Whether it is the password that was stored."""
    _, log_n, r, p, salt, key = stored.split("$")
    made = _key(password, base64.b64decode(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(made, base64.b64decode(key))


async def check(password: str, stored: str | None) -> bool:
    """As :func:`fits`, beside the event loop; as slow, and False, where nothing is stored."""
    if len(password) > LONGEST:
        return False
    async with _AT_ONCE:
        good = await asyncio.to_thread(fits, password, stored or _NOBODY)
    return good and stored is not None


def _key(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_NOBODY: Final = f"scrypt${_LOG_N}${_R}${_P}${_text(bytes(_SALT))}${_text(bytes(32))}"
