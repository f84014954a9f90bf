"""What the SDK tells the endpoint about the Python it runs in.

Small, and the same for every submit of a process: templates see it as ``_GC.user_runtime``, under
the names that Globus Compute uses.
"""

import functools
import platform
import sys
from typing import Any, Final

from mep import __version__

GLOBUS_COMPUTE: Final = "4.19.0"
"""The version of the Globus Compute SDK whose names and formats this one follows."""


@functools.cache
def user_runtime() -> dict[str, Any]:
    """The ``user_runtime`` of a submit."""
    return {
        "mep_sdk_version": __version__,
        "globus_compute_sdk_version": GLOBUS_COMPUTE,
        "python_version": sys.version,
        "python": {
            "version": platform.python_version(),
            "version_tuple": list(sys.version_info[:3]),
            "version_info": list(sys.version_info),
            "implementation": platform.python_implementation(),
        },
        "platform": {"machine": platform.machine(), "release": platform.release()},
    }
