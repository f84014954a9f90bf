"""A user endpoint whose blocks outlive it: run as a script, like ``-m mep.endpoint``."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from detached import BatchSystem, build

from mep.endpoint.__main__ import main
from mep.endpoint.engines.base import Callbacks, Engine, Surroundings


def with_jobs(raw: dict[str, Any], surroundings: Surroundings, callbacks: Callbacks) -> Engine:
    provider = BatchSystem(Path(surroundings.directory))
    return build(raw, surroundings, callbacks, provider)


if __name__ == "__main__":
    sys.exit(main(with_jobs))
