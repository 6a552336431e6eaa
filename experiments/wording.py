"""What is wrong with a spec, in one line that names the field, the value and the nearest valid names."""

import difflib
import json
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic import BaseModel, ValidationError

SHOWN = 60  # characters of a value that a message repeats


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, and the line that says so."""

    path: tuple[str, ...]
    text: str


def describe(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """The faults that `model` found, in its order."""
    # A default that waits for another field is not made where that one is wrong, which says so itself.
    every = [found for found in error.errors(include_url=False) if found["type"] != "default_factory_not_called"]
    # A preset that is none leaves all that it would have filled in missing; only its own fault says something.
    wrong = {details["loc"][:-1] for details in every if details["type"] != "missing"}
    return [
        _fault(details, model) for details in every if details["type"] != "missing" or details["loc"][:-1] not in wrong
    ]


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean a or b?`, or all valid names if none is near and they are few."""
    valid = list(valid)
    if near := _close(name, valid, 0.5):
        return f"; did you mean {' or '.join(near)}?"
    return f"; there is {', '.join(valid)}" if valid and len(valid) <= 12 else ""


def nearest_keys(path: str, model: type[BaseModel]) -> list[str]:
    """The valid dotted keys that someone who wrote `path` may have meant, best first."""
    section, _, key = path.rpartition(".")
    valid = list(field_paths(model))
    last = {name: name.rpartition(".")[2] for name in valid}
    beside = [name for name in valid if name.rpartition(".")[0] == section]
    same = [name for name in valid if last[name] == key]
    # First a slip of the pen in the right section, then the right word in the wrong one, then a slip in both.
    return (
        _ending_in(_close(key, [last[name] for name in beside], 0.75), beside)
        or same[:3]
        or _ending_in(_close(key, [last[name] for name in beside], 0.6), beside)
        or _ending_in(_close(key, last.values(), 0.75), valid)
        or _close(path, valid, 0.8)
    )


def field_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that `model` accepts, dotted, sections before their fields."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in alternatives(field.annotation):
            item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
            if isinstance(item, type) and issubclass(item, BaseModel):
                yield from field_paths(item, f"{prefix}{name}.")
            elif typing.get_origin(kind) is dict:
                keys = typing.get_args(kind)[0]
                yield from (f"{prefix}{name}.{key}" for key in typing.get_args(keys) if _is_literal(keys))


def _fault(details: Any, model: type[BaseModel]) -> Fault:
    path = tuple(str(part) for part in details["loc"] if part != "[key]")
    unknown = details["type"] == "extra_forbidden" or "[key]" in details["loc"]
    what = _unknown(".".join(path), model) if unknown else details["msg"].removeprefix("Value error, ")
    value = details["input"]
    if not unknown and details["type"] != "missing" and not isinstance(value, dict | BaseModel):
        text = json.dumps(value, ensure_ascii=False, default=str)
        what += f" ({text if len(text) <= SHOWN else text[:SHOWN] + '...'})"
    what = " ".join(what.split())
    return Fault(path, f"{'.'.join(path)}: {what[:1].lower() + what[1:]}" if path else what)


def _unknown(path: str, model: type[BaseModel]) -> str:
    path = ".".join(part for part in path.split(".") if not part.isdigit())  # an item of a list has its fields' names
    near = nearest_keys(path, model)
    if near:
        return f"unknown key; did you mean {' or '.join(near)}?"
    section = path.rpartition(".")[0]
    beside = [name.rpartition(".")[2] for name in field_paths(model) if name.rpartition(".")[0] == section]
    return "unknown key" + (f"; {section or 'the top level'} has {', '.join(beside)}" if beside else "")


def _close(word: str, valid: Iterable[str], cutoff: float) -> list[str]:
    """Up to three words that look like `word`, best first; one alone if nearly the same, or with the same letters."""
    near = difflib.get_close_matches(word, set(valid), n=3, cutoff=cutoff)
    if swapped := [name for name in near if sorted(name) == sorted(word)]:
        return swapped[:1]  # `tabel4` is table4, whatever other tables there are
    return near[:1] if difflib.get_close_matches(word, near, n=1, cutoff=0.9) else near


def _ending_in(words: list[str], valid: list[str]) -> list[str]:
    return [name for word in words for name in valid if name.rpartition(".")[2] == word][:3]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """What a field of that annotation may hold: the members of a union, or it alone."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal
