"""Run by the Python that has globus-identity-mapping: lines of questions in, lines of answers out.

A question is ``[documents, identities]``; an answer is ``["account", name or null]`` or
``["error", words]``. Like Globus Compute's endpoint: of all outputs the first.
"""

import json
import sys

from globus_identity_mapping.loader import load_mappers


def answer(documents, identities):
    try:
        found = [mapper.map_identities(identities) for mapper in load_mappers(documents)]
    except Exception as error:
        return ["error", f"{type(error).__name__}: {error}"]
    outputs = [
        output
        for results in found
        for result in results
        for each in result.values()
        for output in each
    ]
    return ["account", outputs[0] if outputs else None]


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
