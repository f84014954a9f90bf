"""``user_environment.yaml``: variables that the administrator gives to user endpoints."""

from mep.endpoint.errors import ConfigRefused

_ACCOUNT_S = ("HOME", "USER", "PWD")


def parse(data: bytes) -> dict[str, str]:
    """The variables in the file. Values are strings; numbers and booleans are taken as written.

    Raises:
        ConfigRefused: no mapping of scalars, or one of HOME, USER, PWD (the account decides these).
    """
    if not data.strip():
        return {}
    import yaml

    try:
        raw = yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506 - strings, lists, dicts only
    except yaml.YAMLError as error:
        raise ConfigRefused(f"user_environment.yaml is not valid YAML: {error}") from error
    if raw is None or raw == "":
        return {}
    if not isinstance(raw, dict):
        raise ConfigRefused("user_environment.yaml must be a mapping of variables")
    for name, value in raw.items():
        _check(name, value)
    return dict(raw)


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ConfigRefused(f"user_environment.yaml: {name!r} is no name of a variable")
    if name in _ACCOUNT_S:
        raise ConfigRefused(
            f"user_environment.yaml sets {name}, which is taken from the user's account"
        )
    if not isinstance(value, str) or "\0" in value:
        raise ConfigRefused(f"user_environment.yaml: the value of {name} is no text")
