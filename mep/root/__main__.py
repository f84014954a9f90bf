"""The warden's command line, run as ``python3 -I -S .../mep/root/__main__.py``.

Without site-packages there is no package `mep`; what stands in for it here is an empty one that
finds its parts beside this file, so nothing else becomes importable.
"""

import argparse
import os
import socket
import sys
import types


def main() -> None:
    """Serve until a signal says otherwise; what is wrong with the configuration ends it at once."""
    from mep.root import audit, files, refusal, site, warden

    parser = argparse.ArgumentParser(prog="mep-warden")
    for option in ("--config", "--state", "--socket", "--audit"):
        parser.add_argument(option, required=True)
    parser.add_argument("--events")
    given = parser.parse_args()
    try:
        for path in (given.state, os.path.dirname(given.socket), os.path.dirname(given.audit)):
            os.close(files.trusted(path))
        known = site.load(given.config, given.state, given.events)
        listener = _listener(given.socket, known.manager.pw_gid)
    except (refusal.ConfigError, OSError) as error:
        sys.exit(f"mep-warden: {error}")
    if address := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))
    warden.Warden(known, audit.Audit(given.audit), listener).run()


def _listener(path: str, group: int) -> socket.socket:
    """The socket that systemd passes, if it does; else a new one that the manager's group may use."""
    if os.environ.pop("LISTEN_PID", "") == str(os.getpid()):
        return socket.socket(fileno=3)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path):
        os.unlink(path)
    os.umask(0o077)
    listener.bind(path)
    os.chown(path, -1, group)
    os.chmod(path, 0o660)
    listener.listen()
    return listener


if __name__ == "__main__":
    package = types.ModuleType("mep")
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["mep"] = package
    main()
