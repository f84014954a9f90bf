"""The warden's command line: ``python3 -I -S .../mep/root/__main__.py ETC STATE AUDIT EVENTS FD``.

`ETC` and `STATE` are directories, `AUDIT` is a log, `EVENTS` the path of the manager's socket for
events, `FD` the number of a descriptor that is passed: a listening socket, as systemd's first is 3.

Without site-packages there is no package `mep`; what stands in for it here is an empty one that
finds its parts beside this file, so nothing else becomes importable.
"""

import os
import socket
import sys
import types


def main(etc: str, state: str, audit: str, events: str, listener: str) -> None:
    """Serve until a signal says otherwise; what is wrong with the configuration ends it at once."""
    from mep.root import files, policy, refusal, warden

    try:
        for path in (state, os.path.dirname(audit)):
            files.trusted(path)
        known = policy.load(etc, state, events)
        listening = socket.socket(fileno=int(listener))
    except (ValueError, OSError) as error:
        sys.exit(f"mep-warden: {error}")
    warden.Warden(known, refusal.Audit(audit), listening).run()


if __name__ == "__main__":
    package = sys.modules["mep"] = types.ModuleType("mep")
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    main(*sys.argv[1:])
