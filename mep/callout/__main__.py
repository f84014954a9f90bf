"""One question on standard input, one answer on standard output, both JSON objects.

Question: ``{"mapping": text of the mapping file, "endpoint_id", "identities": [record, ...]}``,
perhaps with ``"explain": true``. Answer: ``{"error": sentence}``, or ``{"mapped": [identity id,
account name]}`` for the identity that is mapped first, an empty list where there is none. With
`explain` also ``"findings"``: what every rule said, up to the one that decides. Without identities
it is the mapping file that is in question.
"""

import json
import sys
import types
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question."""
    from mep.callout import external, mapping

    findings: list[mapping.Finding] = []
    try:
        rules = mapping.compile_text(question["mapping"])
        run = partial(external.run, question["endpoint_id"])
        for finding in mapping.explain(rules, question["identities"], run):
            findings.append(finding)
            if finding.output:
                break
    except (mapping.MappingError, external.ExternalError) as error:
        said: dict[str, Any] = {"error": str(error)}
    else:
        decided = [[one.identity_id, one.output] for one in findings if one.output]
        said = {"mapped": decided[0] if decided else []}
    if question.get("explain"):
        said["findings"] = [asdict(finding) for finding in findings]
    return said


if __name__ == "__main__":
    # Without site-packages there is no package `mep`: an empty one finds its parts beside this.
    package = types.ModuleType("mep")
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["mep"] = package
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
