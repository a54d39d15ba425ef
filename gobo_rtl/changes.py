"""Other sizes than a named configuration's, as people write them: ``rows=64``,
``index_widths=2,3``."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from .array_config import ArrayConfig
from .config import GoboConfig
from .host_config import HostConfig

__all__ = ["AnyConfig", "Config", "changed", "field_types", "pairs", "suffix"]

AnyConfig = GoboConfig | ArrayConfig | HostConfig
Config = TypeVar("Config", bound=AnyConfig)


def pairs(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Return field and value of each; ``ValueError`` for one that is no FIELD=VALUE."""
    found = []
    for change in changes:
        field, equals, value = change.partition("=")
        if not (field and equals and value):
            raise ValueError(f"a change is FIELD=VALUE, not {change!r}")
        found.append((field, value))
    return found


def suffix(changes: Sequence[str]) -> str:
    """Return what a configuration's name gets: ``_rows_64``."""
    return "".join(re.sub(r"\W", "", f"_{field}_{value}") for field, value in pairs(changes))


def field_types(config: AnyConfig) -> dict[str, Any]:
    """Return the fields of a configuration, and what they are."""
    return {field.name: field.type for field in fields(config)}


def changed(config: Config, changes: Sequence[str], name: str) -> Config:
    """Return a configuration, called ``name``, with other sizes; ``ValueError`` says what is wrong
    with one."""
    types, values = field_types(config), {}
    for field, text in pairs(changes):
        if field not in types:
            raise ValueError(f"{name} has no field {field!r}; there are {', '.join(types)}")
        values[field] = _value(field, types[field], text)
    return replace(config, **values)


def _value(field: str, kind: Any, text: str) -> Any:
    """Return the text as a value of a field; the configuration checks if it takes it."""
    if kind is str:
        return text
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{field} must be true or false, not {text!r}")
        return text == "true"
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{field} must be in whole numbers, not {text!r}")
    if kind is int:
        if len(numbers) != 1:
            raise ValueError(f"{field} must be one number, not {text!r}")
        return int(text)
    return tuple(map(int, numbers))
