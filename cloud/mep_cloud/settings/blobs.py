"""The table ``[blobs]``: where large arguments and results are, and how much room they get."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from mep.wire import limits
from mep_cloud.settings.limits import MOST_INLINE
from mep_cloud.settings.section import DAY_S, Section


class Blobs(Section, frozen=True):
    """Large arguments and results, kept as files."""

    directory: Annotated[
        str,
        Meta(
            description="Where they are kept: an absolute path, of mode 0700 and the relay's own, "
            "on a file system that all relay processes of one database share. Empty: blobs, in "
            "the data directory; several processes then keep everything in the database."
        ),
    ] = ""
    inline: Annotated[
        int,
        Meta(
            ge=1024,
            le=MOST_INLINE,
            description="Bytes of arguments or a result that are kept in the database and travel "
            "in messages. Larger ones are files, streamed by HTTP.",
        ),
    ] = limits.INLINE
    per_user: Annotated[
        int,
        Meta(ge=0, description="Bytes of files of one user, uploads included. 0: no bound."),
    ] = 20 * 1024**3
    keep_free: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of the file system that stay free: what would leave less is "
            "refused with BLOBS_FULL.",
        ),
    ] = 1024**3
    uploads_per_user: Annotated[
        int, Meta(ge=1, le=1000, description="Uploads of one user at once, in one relay process.")
    ] = 8
    orphan_s: Annotated[
        float,
        Meta(
            ge=60,
            description="Seconds that an upload may take, and that one which no task refers to is "
            "kept.",
        ),
    ] = DAY_S

    def __post_init__(self) -> None:
        """It is the same directory, wherever the relay is started."""
        if self.directory and not Path(self.directory).is_absolute():
            raise ValueError(f"directory must be an absolute path, not {self.directory!r}")
