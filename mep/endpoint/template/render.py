"""From options and template to a configuration: the steps in order.

Shared by the user endpoint and by ``mep render``; pure but for ``include`` from the
administrator's directory.
"""

from collections.abc import Mapping
from typing import Any

from mep.endpoint.errors import StartError, TemplateFailed
from mep.endpoint.template import options as user_options
from mep.endpoint.template.names import Site
from mep.endpoint.template.sealed import RESERVED, Mangled, Spelling, Vault


def render(
    template: str,
    options: Mapping[str, Any],
    *,
    schema: Any = None,
    site: Site,
    loader_dir: str | None = None,
) -> dict[str, Any]:
    """The configuration that `template` gives for `options`, as plain data, not yet validated.

    Args:
        template: text of ``user_config_template.yaml.j2``.
        options: decoded ``user_endpoint_config``.
        schema: decoded ``user_config_schema.json``, or None.
        site: the reserved variables.
        loader_dir: the administrator's directory, for ``include``; None where it is not readable.

    Raises:
        OptionsRefused: reserved word, against the schema, or an option that is missing.
        TemplateFailed: the template does not render, or not to one YAML mapping.
    """
    user_options.check(options, schema)
    vault = Vault()
    document = _document(template, options, site, vault, loader_dir)
    return _parsed(document, vault)


def _document(
    template: str, options: Mapping[str, Any], site: Site, vault: Vault, loader_dir: str | None
) -> str:
    """The rendered text: what the template wrote, and tokens."""
    from jinja2.exceptions import TemplateSyntaxError

    from mep.endpoint.template.sandbox import Sandbox

    names = {name: vault.seal_all(value, Spelling.WORD) for name, value in options.items()}
    try:
        compiled = Sandbox(vault, loader_dir).from_string(template)
        return str(compiled.render(names | site.variables(vault)))
    except StartError:
        raise
    except TemplateSyntaxError as error:
        where = f"{error.name or 'the template'}, line {error.lineno}"
        raise TemplateFailed(
            f"the site's template is not valid: {where}: {error.message}"
        ) from error
    except Exception as error:  # a template raises whatever its expressions do
        text = RESERVED.sub("", f"{type(error).__name__}: {error}")
        raise TemplateFailed(f"the site's template cannot be rendered: {text}") from error


def _parsed(document: str, vault: Vault) -> dict[str, Any]:
    import yaml

    from mep.endpoint.template.document import parse

    try:
        data = parse(document, vault)
    except Mangled as error:
        raise TemplateFailed(f"the site's template cannot be used: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = RESERVED.sub("", str(getattr(error, "problem", None) or error))
        message = f"the site's template does not render to valid YAML{where}: {problem}"
        raise TemplateFailed(message) from error
    if not isinstance(data, dict):
        message = f"the site's template renders to {type(data).__name__}, not to a mapping"
        raise TemplateFailed(message)
    return data
