"""A result that is too large for the relay is kept as a file of the user's own.

Runs on Python 3.8 and newer; standard library.
"""

import os
from typing import Sequence, Union

Piece = Union[bytes, bytearray, memoryview]


def keep(directory: str, task_id: str, pieces: Sequence[Piece]) -> str:
    """Write the serialized result to a file of mode 0600 in `directory`; what to tell of it.

    A file of that name that is there already is of an earlier try of the task, and replaced.
    """
    path = os.path.join(directory, task_id)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        if os.path.lexists(path):
            os.unlink(path)
        with open(os.open(path, flags, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        return "It could not be kept at the site either: %s." % (error.strerror or error)
    return (
        "Its serialized form is kept at the site in %s; there, "
        "`mep.payload.load_result(open(PATH, 'rb').read())` gives the value." % path
    )
