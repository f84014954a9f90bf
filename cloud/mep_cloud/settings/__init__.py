"""Everything that can be set in ``relay.toml``, declared once: type, default, description.

The file lies in the data directory and is optional. Secrets are never in it, but in files of mode
0600 beside it. A preset fills in what the file does not say itself.

=============  =================================================================================
``limits``     the table ``[limits]``; each Struct is a table, and so are those of ``blobs``,
               ``database``, ``cluster``, ``log``, ``hooks`` and :mod:`mep_cloud.identity.settings`
``section``    what every table has in common
``whole``      :class:`Settings`: all tables, and what they must agree on
``file``       :func:`load`: the file, read
``reference``  :func:`declared`: what ``mep-relay settings`` prints
=============  =================================================================================
"""

from mep_cloud.settings.blobs import Blobs
from mep_cloud.settings.cluster import Cluster
from mep_cloud.settings.database import Database
from mep_cloud.settings.file import from_tables, load
from mep_cloud.settings.hooks import Hooks
from mep_cloud.settings.limits import MOST_INLINE, Limits
from mep_cloud.settings.log import Log
from mep_cloud.settings.reference import Declared, declared
from mep_cloud.settings.whole import GLOBUS, Settings

__all__ = [
    "GLOBUS",
    "MOST_INLINE",
    "Blobs",
    "Cluster",
    "Database",
    "Declared",
    "Hooks",
    "Limits",
    "Log",
    "Settings",
    "declared",
    "from_tables",
    "load",
]
