"""Secrets and signatures of webhooks: the Standard Webhooks specification, symmetric form.

``webhook-signature: v1,BASE64`` is HMAC-SHA256 over ``webhook-id . webhook-timestamp . body``; the
key is what follows ``whsec_`` in the secret, from base64. Libraries that check it exist for most
languages; a receiver also refuses timestamps that are more than a few minutes off.
"""

import base64
import hmac
from typing import Final

PREFIX: Final = "whsec_"
_LABEL: Final = b"mep-webhook-1\0"


def key_of(master: bytes, webhook_id: str) -> bytes:
    """The key of a webhook, derived: the database holds none."""
    return hmac.digest(master, _LABEL + webhook_id.encode(), "sha256")


def secret_of(key: bytes) -> str:
    """The secret in the form that a user gets, once."""
    return PREFIX + base64.b64encode(key).decode()


def headers(key: bytes, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """Signed headers of one request."""
    timestamp = str(int(now))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    mac = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{mac}",
    }
