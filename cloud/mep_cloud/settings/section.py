"""What every table has in common, and units that several share."""

from typing import Final

import msgspec

DAY_S: Final = 24 * 3600.0


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every table."""
