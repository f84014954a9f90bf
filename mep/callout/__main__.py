"""One question on standard input, one answer on standard output, both JSON objects.

Question: ``{"mapping": text of the mapping file, "endpoint_id", "identities": [record, ...]}``,
perhaps with ``"explain": true``. Answer: ``{"error": sentence}``, or ``{"id", "output"}`` of the
identity that is mapped first, both empty where there is none. With `explain` also ``"findings"``:
what every rule said, up to the one that decides. Without identities it is the mapping file that is
in question.
"""

import json
import sys
import types
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question."""
    from mep.callout import mapping

    def run(command: list[str], people: list[mapping.Identity]) -> list[tuple[str, str]]:
        from mep.callout import external  # most sites never need it, and every start waits for us

        return external.run(question["endpoint_id"], command, people)

    findings: list[mapping.Finding] = []
    try:
        rules = mapping.compile_text(question["mapping"])
        for finding in mapping.explain(rules, question["identities"], run):
            findings.append(finding)
            if finding.output:
                break
    except (mapping.MappingError, mapping.ExternalError) as error:
        said: dict[str, Any] = {"error": str(error)}
    else:
        decided = [(one.identity_id, one.output) for one in findings if one.output]
        said = dict(zip(("id", "output"), decided[0] if decided else ("", ""), strict=True))
    if question.get("explain"):
        said["findings"] = [finding._asdict() for finding in findings]
    return said


if __name__ == "__main__":
    # Without site-packages there is no package `mep`: an empty one finds its parts beside this.
    package = types.ModuleType("mep")
    package.__path__ = [__file__.rsplit("/", 2)[0]]
    sys.modules["mep"] = package
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
