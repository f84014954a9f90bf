"""What the sections of an ``engine:`` are made of: their base, and the types of their values.

What a job script or a scheduler's command line is made of comes from here too. Parsl fills
scripts in by plain text, so these types admit no more than the value's own alphabet: no blank, no
quote, nothing that a shell or a directive line would read as more than one word.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

NO_EFFECT: Final = {"version": "no effect"}

Count = Annotated[int, Meta(ge=1)]
Blocks = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Gigabytes = Annotated[float, Meta(gt=0)]

Word = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.@%+=:,/][A-Za-z0-9_.@%+=:,/-]*\Z")]
"""A name: an account, a partition, a path. It begins with no dash, so that it is no option."""
Expression = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.,:=/@%+&|*()\[\]!-]+\Z")]
"""A scheduler's expression, on a directive line only, where no shell reads it."""
OneLine = Annotated[str, Meta(pattern=r"\A[^\r\n\x00]*\Z")]
"""Text that a scheduler reads, and no shell."""
Arguments = Annotated[str, Meta(pattern=r"\A([^\r\n\x00;&|<>`$\\]|\$(?=[A-Za-z_]))*\Z")]
"""Words for a command line; ``$NAME`` may be among them, but nothing that begins a command."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping of settings."""


class Named(Section, frozen=True, tag_field="type", tag=lambda name: name.removesuffix("Settings")):
    """A mapping of settings that says by ``type`` what it is for."""

    @classmethod
    def name(cls) -> str:
        """Its ``type``."""
        tag = cls.__struct_config__.tag
        assert isinstance(tag, str)
        return tag
