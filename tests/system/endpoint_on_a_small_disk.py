"""A user endpoint whose directory is a file system of so many bytes: run as a script, as root."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000


def main(size: str, directory: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    options = f"size={size},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", directory], check=True)
    os.execv(sys.executable, [sys.executable, "-I", "-m", "mep.endpoint"])


if __name__ == "__main__":
    main(*sys.argv[1:])
