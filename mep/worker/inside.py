"""The fork server in a container: its first steps there, see :mod:`mep.worker.contained`.

Runs on Python 3.8 and newer; standard library, and dill from the zip.
"""

import json
import os
import socket
from typing import NoReturn

from mep.worker.account import in_container
from mep.worker.layout import Share
from mep.worker.server import Server

SOCKET = "control.sock"
TOLD = "told.json"


def serve(directory: str) -> NoReturn:
    """Connect to the node pool by what lies in `directory`, and serve it."""
    os.chdir(directory)  # socket paths are limited to 107 bytes, home directories are not
    with open(TOLD) as file:
        told = json.load(file)
    import dill  # noqa: F401 - a Python that cannot do this shall not look like one that serves

    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(SOCKET)
    control.send(told["token"].encode())
    os.chdir("/")
    settings = told["settings"]
    os.environ.update(
        in_container(told["variables"], os.environ, os.path.exists, settings["working_dir"])
    )
    Server(control, settings, [Share(*share) for share in told["shares"]], None).run()
