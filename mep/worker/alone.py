"""Entry of what runs from the zip of :mod:`mep.worker.bundle`: a worker, or a fork server.

Runs on Python 3.8 and newer; standard library, and dill from the zip.
"""

import json
import os
import socket
import sys
from typing import NoReturn

from mep.worker import worker
from mep.worker.command import CHANNEL


def main() -> NoReturn:
    """Do what the one argument says: what a worker is told, or the directory of a container."""
    argument = sys.argv.pop()
    if not argument.startswith("{"):
        from mep.worker.inside import serve

        serve(argument)
    worker.open_user_path()
    worker.main(socket.socket(fileno=CHANNEL), os.dup(2), json.loads(argument))
