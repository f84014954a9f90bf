"""Why something is not done: one error for the administrator, one in two halves for a start."""


class ConfigError(ValueError):
    """Something that root decides by cannot be used; the text says what to change."""


class Refusal(Exception):
    """`code` of ``mep.wire.codes``, a sentence for the user that tells nothing about anybody
    else, and `detail`: what the audit log alone shall say.
    """

    def __init__(self, code: str, message: str, detail: object = "") -> None:
        super().__init__(message)
        self.code, self.message, self.detail = code, message, str(detail) or message


def clean(text: object) -> str:
    """At most 1000 characters, none of them a control, bidirectional override or surrogate."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:1000])
