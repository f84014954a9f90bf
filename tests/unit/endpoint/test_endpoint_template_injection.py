"""Property: a user's text changes the scalar it is put in, and nothing else."""

import json
from typing import Any

import hypothesis.strategies as st
import jsonschema
import pytest
from hypothesis import given, settings

from mep.endpoint.template.names import Site
from mep.endpoint.template.quick import certainly_valid
from mep.endpoint.template.render import render

DEFAULT = """
{%- set rt = _GC.user_runtime %}
{%- set version = (rt.python.version_tuple | join(".")) if rt.python is defined else none %}
{%- set name = [("py" ~ version) if version else none,
    ("reqs$(echo -en " ~ x ~ " | md5sum)") if x else none] | select | join("-") or none %}
{%- set script %}
# {{ name }}
export P="$HOME/envs/{{ name }}"
uv venv "$P"{% if version %} --python {{ version }}{% endif %}
{%- if x %}
uv pip install -r <(echo -e {{ x }})
eval '$(echo -e {{ x }} )'
{%- endif %}
{%- endset %}
idle_heartbeats_soft: 10
endpoint_setup: {{ endpoint_setup|default() }}
engine:
  type: GlobusComputeEngine
  provider:
    type: LocalProvider
    worker_init: |
      {{ script | default("") | indent(6) }}
    max_blocks: 1
"""

SLURM = """
engine:
  type: GlobusComputeEngine
  nodes_per_block: {{ NODES_PER_BLOCK|default(1) }}
  provider:
    type: SlurmProvider
    partition: cpu
    account: {{ x }}
    walltime: {{ WALLTIME|default("00:30:00") }}
    scheduler_options: "#SBATCH --comment={{ x }}"
    worker_init: |
      module load {{ x }}
      {{ x }}
      source '{{ x }}/bin/activate' "{{ x }}"
    launcher:
      type: SrunLauncher
"""

CONTAINER = """
display_name: My {{ x }} Endpoint
engine:
  type: GlobusComputeEngine
  container_type: {{ x }}
  container_uri: 'docker://{{ x }}'
  container_cmd_options: {{ x|default() }}
  provider: {init_blocks: 1, label: {{ x }}, labels: [{{ x }}, "{{ x }}", '{{ x }}'], max_blocks: 1}
# {{ x }}
tail: 1
"""

FILTERED = """
a: {{ x|upper }}{{ x|lower }}{{ x|title }}
b: {{ x|replace("a", "b") }}-{{ x|trim }}
c: {{ x ~ "-" ~ x }}
d: {{ [x, x]|join(", ") }}
e: {{ x|shell_escape }}
f: {{ x|indent(4) }}
g: {{ "%s=%5s"|format(x, x) }}
h: {{ "{}".format(x) }}
i: {{ x[1:] }}{{ x[:3] }}{{ x[::-1] }}
j: {{ x|tojson }}
k: {{ x|urlencode }}{{ x|e }}{{ x|string }}
l: {{ (x ~ "q")|upper }}
m: >-
  {{ x|lower }} {{ x }}
  {{ x|upper }}
n: {{ x.strip() + x.replace(":", ";") }}
o: {{ ", ".join([x, x]) }}
p: {{ [x]|tojson }}
q: {% filter upper %}{{ x }}{% endfilter %}
r: {{ x.ljust(9) }}{{ x|center(9) }}{{ x|truncate(9) }}{{ x|wordwrap(3) }}
s: {{ {"k": x} }}
"""

CORPUS = [DEFAULT, SLURM, CONTAINER, FILTERED]

SYNTAX = [
    "\n",
    "\r\n",
    "\u2028",
    "'",
    '"',
    ": ",
    " #",
    "- ",
    "{{ ",
    "}}",
    "{% ",
    "%}",
    "[",
    "]",
    "{",
]
SYNTAX += ["}", "&a", "*a", "!!int ", "---\n", "...\n", "|", ">", "<<", "\\n", "\\", "\t", "%", "~"]
SYNTAX += [
    "engine:\n  type: evil\n",
    "\uf8f0\uf8e0\uf8f1",
    "\uf8f0",
    "\uf8f1",
    "\ufeff",
    "\x85",
    "yes",
]
texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(SYNTAX) | st.text(max_size=4), max_size=12).map("".join),
)


def shape(data: Any) -> Any:
    """Structure and types, every string replaced."""
    match data:
        case dict():
            return {key: shape(value) for key, value in data.items()}
        case list():
            return [shape(item) for item in data]
        case str():
            return str
    return data


def texts_of(data: Any) -> list[str]:
    match data:
        case dict():
            return [text for value in data.values() for text in texts_of(value)]
        case list():
            return [text for item in data for text in texts_of(item)]
        case str():
            return [data]
    return []


@pytest.mark.parametrize("template", CORPUS, ids=["default", "slurm", "container", "filtered"])
@given(text=texts.filter(bool))
@settings(max_examples=150, deadline=None)
def test_only_the_scalar_changes(site: Site, template: str, text: str) -> None:
    benign = render(template, {"x": "benign"}, site=site)
    rendered = render(template, {"x": text}, site=site)
    assert shape(rendered) == shape(benign)
    other = render(template, {"x": "harmless"}, site=site)
    scalars = zip(texts_of(benign), texts_of(other), texts_of(rendered), strict=True)
    for before, elsewhere, after in scalars:
        assert before == after or before != elsewhere, "a scalar changed that no option reaches"


@given(text=texts, key=texts)
@settings(max_examples=200, deadline=None)
def test_values_and_keys_arrive_as_they_are(site: Site, text: str, key: str) -> None:
    template = "a: {{ x }}\nb: '{{ x }}'\nc: [{{ x }}]\nd:\n  {{ k }}: \"{{ x }}\"\ne: {{ y }}\n"
    rendered = render(template, {"x": text, "k": key, "y": {key: [text]}}, site=site)
    assert rendered == {"a": text, "b": text, "c": [text], "d": {key: text}, "e": {key: [text]}}


@given(text=texts, other=texts)
@settings(max_examples=200, deadline=None)
def test_comparisons_are_native(site: Site, text: str, other: str) -> None:
    template = (
        "{{ 'a' if x == y else 'b' }}: {{ x in [y] }}\nolder: {{ x == j }}\npart: {{ y in x }}"
    )
    names = {"x": text, "y": other, "j": json.dumps(text)}
    rendered = render(template, names, site=site)
    same = text == other or json.dumps(text) == other
    assert rendered["older"] is True
    assert rendered["part"] is (other in text)
    assert rendered.get("a", False) is same or text == json.dumps(other)


schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["string", "integer", "number", "boolean", "null", "array", "object"]
        ),
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "minimum": st.integers(-2, 2),
        "maximum": st.integers(-2, 2),
        "enum": st.lists(st.one_of(st.text("ab", max_size=2), st.integers(0, 1)), min_size=1),
        "pattern": st.sampled_from(["^a", "b$", "."]),
    },
)
object_schemas = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from("pqr"), schemas, max_size=3)},
    optional={
        "type": st.just("object"),
        "required": st.lists(st.sampled_from("pq"), unique=True),
        "additionalProperties": st.booleans(),
    },
)
values = st.one_of(
    st.text("ab", max_size=4), st.integers(-3, 3), st.booleans(), st.none(), st.floats(-3, 3),
    st.lists(st.integers(0, 1), max_size=2),
)  # fmt: skip


@given(value=st.dictionaries(st.sampled_from("pqrs"), values), schema=object_schemas)
@settings(max_examples=400, deadline=None)
def test_the_quick_check_never_lets_pass_what_jsonschema_refuses(value: Any, schema: Any) -> None:
    if certainly_valid(value, schema):
        jsonschema.Draft202012Validator(schema).validate(value)
