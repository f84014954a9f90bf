"""What people read when the site refuses a start. Root says the code; the words are ours."""

from typing import Final

from mep.wire import codes

SENTENCES: Final = {
    codes.GRANT_REFUSED: "The site did not accept the relay's request to start your user endpoint.",
    codes.IDENTITY_NOT_MAPPED: "The site does not map your identity to a local account.",
    codes.ACCOUNT_UNKNOWN: "Your identity maps to an account that does not exist on this machine.",
    codes.ACCOUNT_REFUSED: (
        "The site does not let the account be used that you map to; see your system administrator."
    ),
    codes.ACCOUNT_SHARED: "Your identity maps to an account that somebody else is using right now.",
    codes.START_LIMIT: (
        "Too many user endpoints, yours or all, run or start here; try again later."
    ),
    codes.START_FAILED: "The site could not start your user endpoint.",
}
"""Silent about anybody else, and about the rules."""


def refused(code: str, reference: str) -> str:
    """The sentence of a refusal, and which record of the log says more."""
    return f"{SENTENCES[code]} (Reference for the administrator: {reference})"
