"""The first program that runs as the user: goes home, opens the log, and becomes the endpoint.

The warden executes it once all privileges are dropped: ``python3 -I -S launch.py ID COMMAND...``,
with everything at ``/dev/null`` but the memory file and descriptor 4. It stands here and not in
the warden because root has no business in anybody's home directory.

Nothing on the way to ``~/.mep/ID/stderr.log`` may be a symbolic link or somebody else's. What is
wrong is said on descriptor 4, and the user reads it. Standard library only.
"""

import os
import signal
import sys

REPORT_DESCRIPTOR = 4
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def main(user_endpoint_id: str, *command: str) -> None:
    """Never returns: the endpoint, or exit status 1."""
    what = "Your home directory on the endpoint's machine cannot be used"
    try:
        os.chdir(os.environ["HOME"])
        log = open_log(user_endpoint_id)
        what = "The site's endpoint software cannot be executed"
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.alarm(0)  # the warden's, for all of the start
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, and exec would keep that
        os.execv(command[0], command)  # noqa: S606 - no shell, by intention
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"{what}: {error.strerror}{where}."
        import json  # every start waits for what is imported above

        said = json.dumps({"code": "START_FAILED", "message": message[:2000]})
        os.write(REPORT_DESCRIPTOR, said.encode() + b"\n")
        sys.exit(1)


def open_log(user_endpoint_id: str) -> int:
    """A descriptor of ``.mep/ID/stderr.log`` below the working directory, both directories 0700.

    Raises:
        OSError: something on the way is a symbolic link, or not the user's, or not to be written.
    """
    at = os.open(".", _DIRECTORY)
    for name in (".mep", user_endpoint_id):
        try:  # noqa: SIM105 - contextlib would cost what json does
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            pass
        above, at = at, os.open(name, _DIRECTORY, dir_fd=at)
        os.close(above)
        if os.fstat(at).st_uid != os.geteuid():
            raise PermissionError(1, "belongs to somebody else", name)
        os.fchmod(at, 0o700)
    return os.open("stderr.log", _LOG, 0o600, dir_fd=at)


if __name__ == "__main__":
    main(*sys.argv[1:])
