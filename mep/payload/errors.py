"""What goes wrong with payloads."""


class PayloadError(Exception):
    """A buffer that cannot be written or read; the message says which and why."""


class ForeignCode(PayloadError):
    """A function whose code, taken by value, is another Python version's."""
