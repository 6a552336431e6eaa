"""Every config field in words: its sentence, type, range and default, read from rasa/config/ and nowhere else."""

import json
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from experiments.wording import alternatives
from rasa.config.fidelity import PRESETS, Fidelity
from rasa.config.formats import FORMATS
from rasa.config.run import Config, Model

MUST = "must be given"
OFF = "off"  # a loss that no row names
# On what a default depends, and what that is if nothing else is said.
USUAL = {"format": "cuhk-pedes", "backbone": "albef"}


class Field(NamedTuple):
    """One field or section of the config. `model` is the section's; None for a field."""

    name: str
    sentence: str
    kind: str
    default: str
    model: type[BaseModel] | None
    counts: bool  # whether it is part of the run id


def fields(model: type[BaseModel] = Config, prefix: str = "", counts: bool = True) -> Iterator[Field]:
    """Every field of a section, sections before their own fields, losses after `objectives.weights`."""
    for name, info in model.model_fields.items():
        path, own = prefix + name, counts and _counts(info)
        section = section_of(info.annotation)
        default = _default(model, name, info) if section is None else ""
        sentence = info.description or _first_sentence(section)
        yield Field(path, sentence, kind(info), default, section, own)
        if section is not None:
            yield from fields(section, f"{path}.", own)
        for key in _keys(info.annotation):
            yield Field(f"{path}.{key}", sentence, "a number above 0", OFF, None, own)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is, or may be; None for a field of values."""
    models = (kind for kind in alternatives(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel))
    return next(models, None)


def may_be_none(info: FieldInfo) -> bool:
    """Whether null may stand for it."""
    return type(None) in alternatives(info.annotation)


def kind(info: FieldInfo) -> str:
    """What may stand there, in words: `a number from 0 to 1`, `fixed, online, momentum or null`."""
    if section_of(info.annotation) is not None:
        return "a section" + (" or null" if may_be_none(info) else "")
    words: list[str] = []
    others: list[str] = []
    for each in alternatives(info.annotation):
        if typing.get_origin(each) is Literal:
            words += [str(word) for word in typing.get_args(each)]
        elif each is not type(None):
            others.append(_named(each) + (_range(info) if each in (int, float) else ""))
    names = [*others, *words, *(["null"] if may_be_none(info) else [])]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _named(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        keys = ", ".join(typing.get_args(inner[0])) if typing.get_origin(inner[0]) is Literal else "fields"
        return f"a mapping of {keys}"
    if origin is tuple:
        return f"a list of {len(inner)} " + ("whole numbers" if inner[0] is int else "numbers")
    plain: Mapping[Any, str] = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a text",
        Path: "a path",
    }
    return plain[annotation]


def _range(info: FieldInfo) -> str:
    low = high = None
    for bound in info.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = f"from {bound.ge}"
        elif isinstance(bound, annotated_types.Gt):
            low = f"above {bound.gt}"
        elif isinstance(bound, annotated_types.Le):
            high = f"to {bound.le}" if low and low.startswith("from") else f"up to {bound.le}"
        elif isinstance(bound, annotated_types.Lt):
            high = f"below {bound.lt}"
    if low and low.startswith("from") and high is None:
        low += " on"
    return "".join(f" {part}" for part in (low, high) if part)


def _default(model: type[BaseModel], name: str, info: FieldInfo) -> str:
    """As YAML has it, and on what it depends."""
    if model is Fidelity and name in PRESETS:
        released, paper = map(shown, PRESETS[name])
        return released if released == paper else f"{released} (preset released), {paper} (preset paper)"
    if info.default is not PydanticUndefined:
        return shown(info.default)
    if info.default_factory is None:
        return MUST
    make = typing.cast(Callable[[dict[str, Any]], Any], info.default_factory)
    usual = make(USUAL)
    section, choices = ("model.backbone", ("tcl", "clip")) if model is Model else ("data.format", tuple(FORMATS))
    key = section.rpartition(".")[2]
    others: dict[str, list[str]] = {}
    for choice in choices:
        if (other := make(USUAL | {key: choice})) != usual:
            others.setdefault(shown(other), []).append(choice)
    told = "".join(f"; {value} with {section} {' or '.join(chosen)}" for value, chosen in others.items())
    return shown(usual) + told


def default_of(model: type[BaseModel], name: str) -> Any:
    """The default itself, where nothing is said of what it depends on; PydanticUndefined if it must be given."""
    info = model.model_fields[name]
    if model is Fidelity and name in PRESETS:
        return PRESETS[name][0]
    if info.default is not PydanticUndefined or info.default_factory is None:
        return info.default
    return typing.cast(Callable[[dict[str, Any]], Any], info.default_factory)(USUAL)


def shown(value: Any) -> str:
    """A value as YAML has it, in one line."""
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _keys(annotation: Any) -> tuple[str, ...]:
    """The keys of a mapping that may have these alone."""
    for each in alternatives(annotation):
        if typing.get_origin(each) is dict and typing.get_origin(key := typing.get_args(each)[0]) is Literal:
            return typing.get_args(key)
    return ()


def _counts(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return not isinstance(extra, dict) or extra.get("identity", True) is not False


def _first_sentence(section: type[BaseModel] | None) -> str:
    return ((section.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")) if section else ""
