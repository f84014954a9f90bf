"""Schedulers that are not here: commands on a PATH of their own that answer what was recorded."""

import shlex
from pathlib import Path

SCRIPT = """\
#!/bin/sh
echo "$0 $*" >> {calls}
{special}
cat {answer}.out
cat {answer}.err >&2
exit "$(cat {answer}.rc)"
"""


class FakeScheduler:
    """Answers each command as it was last told to."""

    special = ""
    """Shell lines that every command runs first."""

    def __init__(self, directory: Path, *commands: str) -> None:
        self.directory = directory
        self.calls = directory / "calls"
        (directory / "bin").mkdir()
        self.calls.touch()
        for command in commands:
            self.answer(command)
            path = directory / "bin" / command
            path.write_text(
                SCRIPT.format(
                    calls=shlex.quote(str(self.calls)),
                    answer=shlex.quote(str(directory / command)),
                    special=self.special,
                )
            )
            path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.directory}/bin:/usr/bin:/bin"}

    def answer(self, command: str, out: str = "", err: str = "", code: int = 0) -> None:
        """From now on, this is what `command` says."""
        for kind, text in (("out", out), ("err", err), ("rc", str(code))):
            new = self.directory / f"{command}.{kind}.new"
            new.write_text(text)
            new.rename(self.directory / f"{command}.{kind}")

    def asked(self, command: str) -> list[str]:
        """The arguments of each call of `command`."""
        calls = [line.split(" ", 1) for line in self.calls.read_text().splitlines()]
        return [arguments for name, arguments in calls if name.endswith(f"/{command}")]


class HangingScheduler(FakeScheduler):
    """Never answers."""

    special = "exec sleep 600"
