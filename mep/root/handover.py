"""The sealed memory file that a user endpoint finds at descriptor 3: ``mep/wire/handover.py``."""

import fcntl
import os
import struct


def seal(sections: dict[str, bytes]) -> int:
    """A read-only descriptor of a memory file that nobody can change, or open a second time.

    It belongs to root with mode 0: processes of the same user that find it in ``/proc`` before
    the endpoint makes itself non-dumpable cannot open it.
    """
    data = b"MEP handover 1\n"
    for name, body in sections.items():
        data += struct.pack(">16sI", name.encode(), len(body)) + body
    with open(os.memfd_create("mep", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(data)
        file.flush()
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        reader = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        os.fchmod(reader, 0)
    return reader
