"""Entry of a worker that was started by command, from the zip of :mod:`mep.worker.bundle`.

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
    """Serve the channel; what there is to know is the one argument, see ``command``."""
    told = json.loads(sys.argv.pop())
    worker.open_user_path()
    worker.main(socket.socket(fileno=CHANNEL), os.dup(2), told)
