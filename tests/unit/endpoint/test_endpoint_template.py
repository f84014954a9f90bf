"""What a template renders to: one row, one sentence of the contract."""

from pathlib import Path
from typing import Any

import pytest

from mep.endpoint.errors import OptionsRefused, TemplateFailed
from mep.endpoint.template.names import Site
from mep.endpoint.template.render import render

NASTY = "a\nb: [c, 'd' \"e\" {{ f }} #g"

ROWS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # A string option stays a string, whatever YAML would make of its text.
    *(
        (f"string {text!r}", "a: {{ x }}", {"x": text}, {"a": text})
        for text in ("314159265", "10:30:00", "yes", "null", "1e3", "~", "", " x ", "!!int 3", "<<")
    ),
    # The rest stays native.
    *(
        (f"native {value!r}", "a: {{ x }}", {"x": value}, {"a": value})
        for value in (3, -2.5, 1e300, 1e16, True, False, None, [1, "b\nc"], {"k": ["v: w"]}, [], {})
    ),
    ("number in quotes", 'a: "{{ x }}"', {"x": 3}, {"a": "3"}),
    ("number in text", "a: n{{ x }}", {"x": 3}, {"a": "n3"}),
    ("list in text", "a: n{{ x }}", {"x": ["q"]}, {"a": 'n["q"]'}),
    # Wherever a template puts the value, it is that scalar and no more.
    ("plain", "a: {{ x }}", {"x": NASTY}, {"a": NASTY}),
    ("double quotes", 'a: "{{ x }}"', {"x": NASTY}, {"a": NASTY}),
    ("single quotes", "a: '{{ x }}'", {"x": NASTY}, {"a": NASTY}),
    ("part of text", "a: foo-{{ x }}-bar", {"x": NASTY}, {"a": f"foo-{NASTY}-bar"}),
    ("part of quotes", 'a: "foo {{ x }}"', {"x": NASTY}, {"a": f"foo {NASTY}"}),
    ("flow list", "a: [{{ x }}, {{ x }}]", {"x": NASTY}, {"a": [NASTY, NASTY]}),
    ("flow mapping", "a: {b: {{ x }}}", {"x": NASTY}, {"a": {"b": NASTY}}),
    ("key", "{{ x }}: 1", {"x": NASTY}, {NASTY: 1}),
    ("a key is no merge key", "{{ x }}: {a: 1}", {"x": "<<"}, {"<<": {"a": 1}}),
    ("comment", "a: 1 # {{ x }}", {"x": NASTY}, {"a": 1}),
    ("explicit tag", "a: !!str {{ x }}", {"x": NASTY}, {"a": NASTY}),
    ("anchor", "a: &n {{ x }}\nb: *n", {"x": NASTY}, {"a": NASTY, "b": NASTY}),
    # In a block scalar: as it is on its own line, else one word.
    ("block line", "a: |\n  one\n  {{ x }}\n", {"x": "p q\nr"}, {"a": "one\np q\nr\n"}),
    ("block word", "a: |\n  load {{ x }}\n", {"x": "gcc/12"}, {"a": "load gcc/12\n"}),
    ("block quoted word", "a: |\n  load {{ x }}\n", {"x": "a b\n"}, {"a": 'load "a b\\n"\n'}),
    ("block own quotes", 'a: |\n  load "{{ x }}"\n', {"x": 'a "b'}, {"a": 'load "a \\"b"\n'}),
    ("block single quotes", "a: |\n  load '{{ x }}'\n", {"x": "a b"}, {"a": "load 'a b'\n"}),
    ("folded", "a: >-\n  one\n  {{ x }}\n", {"x": "a b"}, {"a": 'one "a b"'}),
    ("unquoted by slice", "a: |\n  load {{ x[1:-1] }}\n", {"x": "a b"}, {"a": "load a b\n"}),
    # Comparisons see native values; the JSON spelling holds too.
    ("equal", "a: {{ x == 'test' }}", {"x": "test"}, {"a": True}),
    ("equal, older", "a: {{ x == '\"test\"' }}", {"x": "test"}, {"a": True}),
    ("not equal, older", "a: {{ x != '\"test\"' }}", {"x": "test"}, {"a": False}),
    ("unequal", "a: {{ x == 'tes' }}", {"x": "test"}, {"a": False}),
    ("in list", "a: {{ x in ['dev', 'test'] }}", {"x": "test"}, {"a": True}),
    ("in list, older", "a: {{ x in ['\"test\"'] }}", {"x": "test"}, {"a": True}),
    ("in text", "a: {{ x in 'dev,test' }}", {"x": "test"}, {"a": True}),
    ("not in text", "a: {{ x not in 'dev' }}", {"x": "test"}, {"a": True}),
    ("text in it", "a: {{ 'es' in x }}", {"x": "test"}, {"a": True}),
    ("dict look-up", "a: {{ {'k': 5}[x] }}", {"x": "k"}, {"a": 5}),
    ("number", "a: {{ x > 3 }}", {"x": 4}, {"a": True}),
    ("list look-up", "a: {{ 'q' in x }}", {"x": ["q"]}, {"a": True}),
    ("nested", "a: {{ x.k.l }}", {"x": {"k": {"l": NASTY}}}, {"a": NASTY}),
    ("loop", "{% for i in x %}k{{ loop.index }}: {{ i }}\n{% endfor %}", {"x": ["p", "q: r"]},
     {"k1": "p", "k2": "q: r"}),
    ("test upper", "a: {{ x is upper }}", {"x": "AB"}, {"a": True}),
    ("ordering", "a: {{ x < 'b' }}", {"x": "a"}, {"a": True}),
    ("empty is false", "a: {{ 1 if x else 2 }}", {"x": ""}, {"a": 2}),
    # Filters and methods work on the native text; what they give is confined.
    ("upper", "a: {{ x|upper }}", {"x": "a: b\n"}, {"a": "A: B\n"}),
    ("title", "a: {{ x|title }}", {"x": "a b"}, {"a": "A B"}),
    ("replace", "a: {{ x|replace('a', ': ') }}", {"x": "bab"}, {"a": "b: b"}),
    ("replace by option", "a: {{ 'abc'|replace('b', x) }}", {"x": ": "}, {"a": "a: c"}),
    ("join", "a: {{ x|join(', ') }}", {"x": ["p", "q: r"]}, {"a": "p, q: r"}),
    ("join method", "a: {{ ', '.join(x) }}", {"x": ["p", "q: r"]}, {"a": "p, q: r"}),
    ("sort", "a: {{ x|sort|join('') }}", {"x": ["b", "a"]}, {"a": "ab"}),
    ("map", "a: {{ x|map('upper')|join('') }}", {"x": ["b", "a"]}, {"a": "BA"}),
    ("unique", "a: {{ x|unique|list }}", {"x": ["b", "b"]}, {"a": ["b"]}),
    ("int", "a: {{ x|int + 1 }}", {"x": "41"}, {"a": 42}),
    ("float", "a: {{ x|float }}", {"x": "4.5"}, {"a": 4.5}),
    ("length", "a: {{ x|length }}", {"x": "four"}, {"a": 4}),
    ("wordcount", "a: {{ x|wordcount }}", {"x": "a b"}, {"a": 2}),
    ("trim", "a: {{ x|trim }}", {"x": " : "}, {"a": ":"}),
    ("truncate", "a: {{ x|truncate(4, True, '', 0) }}", {"x": ": abcdef"}, {"a": ": ab"}),
    ("reverse", "a: {{ x|reverse }}", {"x": "a :"}, {"a": ": a"}),
    ("urlencode", "a: {{ x|urlencode }}", {"x": "a b"}, {"a": "a%20b"}),
    ("tojson", "a: {{ x|tojson }}", {"x": {"k": "v: w"}}, {"a": {"k": "v: w"}}),
    ("concatenation", "a: {{ x ~ '-' ~ n }}", {"x": "p: q", "n": 3}, {"a": "p: q-3"}),
    ("plus", "a: {{ 'u' + x + 'v' }}", {"x": ": "}, {"a": "u: v"}),
    ("times", "a: {{ x * 2 }}", {"x": ": "}, {"a": ": : "}),
    ("percent", "a: {{ '%s-%03d' % (x, 7) }}", {"x": ": "}, {"a": ": -007"}),
    ("percent, numbers", "a: {{ '%d' % n }}", {"n": 7}, {"a": 7}),
    ("percent c", "a: {{ '%c' % n }}", {"n": 10}, {"a": "\n"}),
    ("format", "a: {{ '{}-{:>3}'.format(x, x) }}", {"x": ":"}, {"a": ":-  :"}),
    ("format filter", "a: {{ '%s'|format(x) }}", {"x": ": "}, {"a": ": "}),
    ("index", "a: {{ x[0] }}", {"x": ":b"}, {"a": ":"}),
    ("split", "a: {{ x.split(',')[1] }}", {"x": "a,: b"}, {"a": ": b"}),
    ("method of plain text", "a: {{ 'test'.startswith(x) }}", {"x": "te"}, {"a": True}),
    ("set block", "{% set t %}{{ x }}!{% endset %}a: {{ t }}", {"x": ": "}, {"a": ": !"}),
    ("set block compared", "{% set t %}{{ x }}!{% endset %}a: {{ t == 'b!' }}", {"x": "b"},
     {"a": True}),
    ("set block filtered", "{% set t %}{{ x }}!{% endset %}a: {{ t|upper }}", {"x": "b"},
     {"a": "B!"}),
    ("macro", "{% macro m(v) %}<{{ v }}>{% endmacro %}a: {{ m(x) }}", {"x": ": "}, {"a": "<: >"}),
    ("filter block", "a: {% filter upper %}{{ x }}c{% endfilter %}", {"x": "b: "}, {"a": "B: C"}),
    ("string of a list", "a: {{ [x]|string }}", {"x": "b, c"}, {"a": ["'b, c'"]}),
    ("shell_escape", "a: {{ x|shell_escape }}", {"x": "a b; c"}, {"a": "'a b; c'"}),
    ("shell_escape in text", "a: |\n  echo {{ x|shell_escape }}\n", {"x": "it's"},
     {"a": "echo 'it'\"'\"'s'\n"}),
    ("shell_escape of a number", "a: {{ x|shell_escape }}", {"x": 3}, {"a": 3}),
    # The template's own scalars.
    ("no base 60", "a: 12:00:00\nb: 1:30", {}, {"a": "12:00:00", "b": "1:30"}),
    ("default walltime", "a: {{ W|default('00:30:00') }}", {}, {"a": "00:30:00"}),
    ("no dates", "a: 2026-01-02", {}, {"a": "2026-01-02"}),
    ("booleans", "a: [yes, No, on, OFF, true]", {}, {"a": [True, False, True, False, True]}),
    ("integers", "a: [0755, 0o17, 0x1f, 1_000, 08, -3, 0]", {},
     {"a": [493, 15, 31, 1000, "08", -3, 0]}),
    ("floats", "a: [1.5, 1e3, .5, -.inf]", {}, {"a": [1.5, 1000.0, 0.5, float("-inf")]}),
    ("nulls", "a: [null, ~]\nb: null", {}, {"a": [None, None], "b": None}),
    ("empty: absent", "a: {{ x|default() }}\nb: {c: }\nd: ''", {}, {"b": {}, "d": ""}),
    ("merge key", "a: &n {p: 1}\nb: {<<: *n, q: 2}", {}, {"a": {"p": 1}, "b": {"p": 1, "q": 2}}),
    # What the site provides.
    ("parent", "a: {{ _GC.parent_config.motd }}\nb: {{ parent_config.heartbeat_period }}", {},
     {"a": "a: b", "b": 12.5}),
    ("runtime", "a: {{ _GC.user_runtime.python.version_tuple|join('.') }}", {}, {"a": "3.11.2"}),
    ("runtime is confined", "a: {{ user_runtime.evil }}", {}, {"a": "x\nengine: {}"}),
    ("identity", "a: {{ mapped_identity.local.uname }}\nb: {{ _GC.mapped_identity.globus.id }}", {},
     {"a": "alice", "b": "i-1"}),
    ("gecos is confined", "a: {{ mapped_identity.local.gecos }}", {},
     {"a": "Alice\nengine: evil"}),
    ("groups", "a: {{ 27 in mapped_identity.local.groups }}\nb: {{ mapped_identity.local.groups }}",
     {}, {"a": True, "b": [1002, 27]}),
    ("environment", "a: {{ _GC.env.CORES }}\nb: {{ _GC.env.HOME }}/x\nc: '{{ _GC.env.FLAG }}'", {},
     {"a": 4, "b": "/home/alice/x", "c": "yes"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "options", "config"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_renders(
    site: Site, template: str, options: dict[str, Any], config: dict[str, Any]
) -> None:
    rendered = render(template + "\n", options, site=site)
    assert repr(rendered) == repr(config)


FAILS: list[tuple[str, dict[str, Any], str]] = [
    ("a: {{ x", {}, "line 1"),
    ("a: b: c", {}, "YAML at line 1"),
    ("a: 1\na: 2", {}, "'a' stands twice"),
    ("{{ x }}: 1\nb: 2", {"x": "b"}, "stands twice"),
    ("- 1", {}, "list, not to a mapping"),
    ("a: 1\n---\nb: 2", {}, "YAML"),
    ("a: !!python/object:os.system {}", {}, "YAML"),
    ("a: !{{ x }} 1", {"x": "!int"}, "YAML"),
    ("a: {{ ''.__class__ }}", {}, "unsafe"),
    ("a: {{ x._native }}", {"x": "b"}, "unsafe"),
    ("a: {{ x.encode() }}", {"x": "b"}, "encoded"),
    ("a: {{ x.format(1) }}", {"x": "{}"}, "format"),
    ("a: {{ x.nothing }}", {"x": {}}, "no attribute 'nothing'"),
    ("a: {{ 1 // 0 }}", {}, "ZeroDivisionError"),
    ("a: {{ range }}", {}, "cannot be printed"),
    ("a: {{ x|map('upper') }}", {"x": ["b"]}, "generator cannot be printed"),
    ("a: \uf8f0", {}, "private-use"),
    ("a: {{ (x ~ 'b')|indent(2)|list|first }}{{ 'c' }}{{ '\\uf8f0' }}", {"x": "a"}, "alters"),
    ("{% include x %}", {"x": "other.j2"}, "TypeError"),
    ("{{ [x] }}: 1", {"x": "b"}, "YAML"),
]


@pytest.mark.parametrize(("template", "options", "part"), FAILS)
def test_template_fails(site: Site, template: str, options: dict[str, Any], part: str) -> None:
    with pytest.raises(TemplateFailed, match=part):
        render(template, options, site=site)


def test_a_missing_option_is_named(site: Site) -> None:
    with pytest.raises(OptionsRefused, match="needs the option 'ACCOUNT_ID'"):
        render("a: {{ ACCOUNT_ID }}", {}, site=site)


@pytest.mark.parametrize("word", ["parent_config", "user_runtime", "mapped_identity", "_GC"])
def test_reserved_words(site: Site, word: str) -> None:
    with pytest.raises(OptionsRefused, match=f"'{word}'.*reserved"):
        render("a: 1", {word: {}}, site=site)


def test_include_from_the_administrators_directory(site: Site, tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("b: {{ x }}")
    template = "a: 1\n{% include 'part.j2' %}"
    rendered = render(template, {"x": ": "}, site=site, loader_dir=str(tmp_path))
    assert rendered == {"a": 1, "b": ": "}
    with pytest.raises(TemplateFailed):
        render("{% include x %}", {"x": "part.j2"}, site=site, loader_dir=str(tmp_path))


SCHEMA = {
    "type": "object",
    "properties": {
        "nodes": {"type": "integer", "maximum": 64},
        "queue": {"enum": ["cpu", "gpu"]},
        "deep": {"type": "object", "properties": {"a/b": {"type": "string"}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "required": ["nodes"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"nodes": 99}, ["/nodes", "99", "maximum: 64"]),
        ({"nodes": "1"}, ["/nodes", '"1"', 'type: "integer"']),
        ({"nodes": True}, ["/nodes", "true", 'type: "integer"']),
        ({"nodes": 1, "queue": "x"}, ["/queue", '"x"', "enum", "gpu"]),
        ({"nodes": 1, "deep": {"a/b": 1}}, ["/deep/a~1b", "1", "type"]),
        ({"nodes": 1, "wokers": 4}, ["/wokers", "4", "additionalProperties", "queue"]),
        ({"nodes": 1, "p": 4, "q": 1}, ["additionalProperties"]),
        ({}, ["'nodes'", "required"]),
    ],
)
def test_schema_refuses(site: Site, options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(OptionsRefused) as caught:
        render("a: 1", options, schema=SCHEMA, site=site)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_schema_lets_pass(site: Site) -> None:
    options = {"nodes": 2, "queue": "gpu", "deep": {"a/b": "c"}, "either": 3}
    assert render("a: {{ nodes }}", options, schema=SCHEMA, site=site) == {"a": 2}


@pytest.mark.parametrize("schema", [{"type": "objekt"}, [], 7, {"$ref": "https://example.org/x"}])
def test_a_schema_that_is_none_is_the_sites_fault(site: Site, schema: Any) -> None:
    with pytest.raises(TemplateFailed, match="schema is not valid"):
        render("a: 1", {"x": 1}, schema=schema, site=site)
