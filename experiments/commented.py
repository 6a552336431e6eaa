"""A config as YAML with a comment over every field: its sentence, what may stand there, its default."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from experiments.fields import MUST, Field, default_of, fields, shown
from experiments.yaml_io import dump
from rasa.config.run import Config

WIDTH = 100


def commented(values: Mapping[str, Any]) -> str:
    """The values of a config, as YAML; what they leave out has its default, or stands there as a comment."""
    return "\n".join(_section(Config, values, {field.name: field for field in fields()}, "", False)).lstrip() + "\n"


def _section(
    model: type[BaseModel], values: Mapping[str, Any], known: Mapping[str, Field], prefix: str, off: bool
) -> Iterator[str]:
    """The lines of a section; `off`: all are comments, since there is no such section now."""
    indent = "  " * prefix.count(".")
    for name in model.model_fields:
        field = known[prefix + name]
        if field.name == "seed":  # a row has none
            continue
        if "." not in field.name:
            yield ""
        told = field.sentence if field.model else f"{field.sentence} [{field.kind}; default {field.default}]"
        sign = f"{indent}# "
        yield from textwrap.wrap(told, WIDTH, initial_indent=sign, subsequent_indent=sign, break_on_hyphens=False)
        value = values.get(name, default_of(model, name))
        if field.model is None:
            yield from _lines({name: value}, indent, off or value is PydanticUndefined)
            continue
        inside = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        none = inside is None or inside is PydanticUndefined
        if inside is None:
            yield from _lines({name: None}, indent, off)
        yield f"{indent}{'# ' if off or inside is None else ''}{name}:"
        yield from _section(field.model, {} if none else inside, known, f"{field.name}.", off or inside is None)


def _lines(value: Mapping[str, Any], indent: str, off: bool) -> Iterator[str]:
    ((name, given),) = value.items()
    if given is PydanticUndefined:
        yield f"{indent}# {name}:  # {MUST}"
        return
    text = dump({name: given if isinstance(given, Mapping | list | tuple) else _plain(given)})
    for line in text.splitlines():
        yield f"{indent}{'# ' if off else ''}{line}"


def _plain(value: Any) -> Any:
    """As YAML can write it."""
    return value if value is None or isinstance(value, bool | int | float | str) else shown(value)
