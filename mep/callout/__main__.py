"""One question on standard input, one answer on standard output, both JSON objects.

Question: ``{"mapping": text of the mapping file, "endpoint_id", "identities": [record, ...]}``,
perhaps with ``"explain": true``. Answer: ``{"error": sentence}``, or ``{"id", "output", "rule"}``
of the identity that is mapped first, all empty where there is none. With `explain` also
``"findings"``: what every rule said, also those after the one that decides, but for programs,
which are not asked then; and ``"remarks"`` on the file (null where it is none). Without identities
it is the mapping file that is in question.
"""

import json
import sys
import time
import types
from typing import Any, Final

SECONDS: Final = 9.0
"""For all programs together; the warden's alarm comes a second later, and ends this one alone."""


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question."""
    from mep.callout import errors, mapping

    deadline = time.monotonic() + SECONDS

    def run(asked: mapping.External, people: list[mapping.Identity]) -> list[mapping.Answer]:
        if decided:
            return []
        from mep.callout import external  # most sites never need it, and every start waits for us

        left = min(external.SECONDS, max(deadline - time.monotonic(), 0))
        return external.run(question["endpoint_id"], asked, people, left)

    findings: list[mapping.Finding] = []
    decided: list[mapping.Finding] = []
    rules: mapping.Mapping | None = None
    try:
        rules = mapping.compile_text(question["mapping"])
        for finding in mapping.explain(rules, question["identities"], run):
            findings.append(finding)
            if finding.output and not decided:
                decided.append(finding)
                if not question.get("explain"):
                    break
    except (errors.MappingError, errors.ExternalError) as error:
        said: dict[str, Any] = {"error": str(error)}
    else:
        said = {"id": "", "output": "", "rule": ""}
        for first in decided:
            rule = f"{first.rule}: {first.text}"
            said = {"id": first.identity_id, "output": first.output, "rule": rule}
    if question.get("explain"):
        from mep.callout.remarks import remarks

        said["findings"] = [finding._asdict() for finding in findings]
        said["remarks"] = None if rules is None else list(remarks(rules))
    return said


if __name__ == "__main__":
    # Without site-packages there is no package `mep`: an empty one finds its parts beside this.
    package = types.ModuleType("mep")
    package.__path__ = [__file__.rsplit("/", 2)[0]]
    sys.modules["mep"] = package
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
