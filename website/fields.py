"""The page of every config field, made of the pydantic models: type, default, bounds, meaning, profiles."""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from website.markdown import code, table

BOUNDS = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}
COMPUTED = "depends"  # a default that other fields decide


def fields_page(
    config: type[BaseModel],
    profiles: Mapping[str, Mapping[str, Any]],
    presets: Mapping[str, Mapping[str, tuple[Any, Any]]],
) -> str:
    """Markdown with a section for each part of `config`, and each field's value in `profiles` where they differ.

    `presets`: by section, the values (released, paper) of fields whose default the section's preset decides.
    """
    lines = [
        "# Config fields",
        "",
        "Made from the models that check a run's config. Set one with `-o FIELD=VALUE`, or in a suite, a profile or a",
        "space. `rasa show table4/m-rtd --profile synth` prints all of one run.",
        "",
        "A field marked with * changes where or how fast a run happens, and not what it computes: it does not enter",
        f"the run id. *{COMPUTED}*: the default is that of another field's value, as the text says.",
        "",
    ]
    for name, model in sections(config):
        lines += [f"## {name or 'the run'} {{#{name.replace('.', '-') or 'run'}}}", ""]
        lines += [*_summary(model), *_table(name, model, presets.get(name, {})), ""]
    lines += ["## Profiles { #profiles }", "", *_profiles(profiles)]
    return "\n".join(lines)


def specs_page(models: Mapping[str, type[BaseModel]]) -> str:
    """Markdown for the files that a user writes: by file, its model and those in it."""
    lines = ["# Suite, profile and space files", "", "Made from the models that check these files.", ""]
    for title, outermost in models.items():
        lines += [f"## {title}", ""]
        for model in reachable(outermost):
            lines += [f"### {model.__name__}", "", *_summary(model), *_table("", model), ""]
    return "\n".join(lines)


def sections(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The model and those that its fields hold, each with its dotted name."""
    yield above, model
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is not None:
            yield from sections(inner, f"{above}.{name}" if above else name)


def reachable(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and all that its fields hold at any depth, also in lists and mappings, each once, outermost first."""
    found, waiting = [], [model]
    while waiting:
        first = waiting.pop(0)
        if first not in found:
            found.append(first)
            waiting += [inner for field in first.model_fields.values() for inner in _inside(field.annotation)]
    return found


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _inside(part)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or may hold; None if it holds a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((model for part in get_args(annotation) if (model := model_in(part)) is not None), None)
    return None


def type_name(annotation: Any) -> str:
    """A type as a user would say it: `whole number`, `number or null`, the choices of a Literal."""
    names: dict[Any, str] = {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        Path: "path",
        type(None): "null",
        Any: "any value",
    }
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    if origin is Literal:
        return ", ".join(str(choice) for choice in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(part) for part in inside)
    if origin is tuple:
        if inside[-1] is Ellipsis:
            return f"list of {type_name(inside[0])}"
        return f"[{', '.join(type_name(part) for part in inside)}]"
    if origin is dict:
        return f"mapping of {type_name(inside[0])} to {type_name(inside[1])}"
    if origin is list:
        return f"list of {type_name(inside[0])}"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return type_name(inside[0])
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def bounds(field: FieldInfo) -> str:
    """E.g. `>= 0, < 1`; nothing for a field without."""
    found = [(BOUNDS[type(each)], each) for each in field.metadata if type(each) in BOUNDS]
    values = (getattr(each, name) for _, each in found for name in ("ge", "gt", "le", "lt") if hasattr(each, name))
    return ", ".join(f"{sign} {written(value)}" for (sign, _), value in zip(found, values, strict=True))


def _summary(model: type[BaseModel]) -> list[str]:
    said = (model.__doc__ or "").strip()
    return [line.strip() for line in said.splitlines()] + [""] if said else []


def _table(
    name: str, model: type[BaseModel], presets: Mapping[str, tuple[Any, Any]] = MappingProxyType({})
) -> list[str]:
    rows = []
    for field, info in model.model_fields.items():
        dotted = f"{name}.{field}" if name else field
        if model_in(info.annotation) is not None and not info.description:
            continue  # it has a section of its own
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        star = "\\*" if extra.get("identity") is False else ""
        kind = "; ".join(part for part in (type_name(info.annotation), bounds(info)) if part)
        default = _of_presets(*presets[field]) if field in presets else _default(info)
        rows.append([code(dotted) + star, kind, default, (info.description or "").replace("<", "&lt;")])
    return table(("field", "values", "default", "meaning"), rows)


def _of_presets(released: Any, paper: Any) -> str:
    if released == paper:
        return code(written(released))
    return f"{code(written(released))}; `preset: paper`: {code(written(paper))}"


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None:
        return f"*{COMPUTED}*"
    if info.default is PydanticUndefined:
        return "required"
    if isinstance(info.default, BaseModel):
        return "that section's"
    return code(written(info.default))


def written(value: Any) -> str:
    """A value as YAML has it on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(each)}' for key, each in value.items())}}}"
    return str(value) or '""'


def _profiles(profiles: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "Values of `table4/m-rtd` by profile, where they differ. `-`: it is left to you, or there is no such field.",
        "",
    ]
    fields = list(dict.fromkeys(field for values in profiles.values() for field in values))
    rows = []
    for field in fields:
        cells = [code(written(values[field])) if field in values else "-" for values in profiles.values()]
        if len(set(cells) - {"-"}) > 1:
            rows.append([code(field), *cells])
    return [*lines, *table(("field", *profiles), rows), ""]
