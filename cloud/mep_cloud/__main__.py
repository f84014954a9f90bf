"""``mep-relay``, and ``python -m mep_cloud``."""

import sys

from mep_cloud.cli.verbs import relay


def main() -> None:
    """Run the command line; only here does the process exit."""
    sys.exit(relay())


if __name__ == "__main__":
    main()
