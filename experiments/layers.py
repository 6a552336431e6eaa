"""Layers of config values, merged, and what a fault in them is blamed on."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from experiments.wording import Fault, alternatives, describe
from experiments.yaml_io import load
from rasa.config.run import Config
from rasa.errors import SpecError

DROPPED = re.compile(r"(^|\s)#|^\s*[&*!|>%@`]")  # a comment, an anchor, a tag, ...: no part of a value
REPLACED_WHOLE = ("objectives", "weights")  # a row states all its losses


@dataclass(frozen=True)
class Layer:
    """Config values of one origin; `source` is how a message names it, `whole` that its loss weights are all."""

    source: str
    values: Mapping[str, Any]
    whole: bool = True


def parse_override(text: str, sign: str = "-o") -> Layer:
    """The layer of `-o key=value`. A path or a text is taken as typed, any other value is YAML. Raises SpecError."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpecError(f"{sign} {text}: write key=value with a dotted key, e.g. -o optimisation.epochs=3")
    nested: Any = _typed(key, value, sign) if _takes_text(parts) else _read(key, value, sign)
    for part in reversed(parts):
        nested = {part: nested}
    return Layer(sign, nested, whole=parts[:2] != [*REPLACED_WHOLE] or len(parts) == 2)


def _typed(key: str, text: str, sign: str) -> str | None:
    """A text or a path as typed; in quotes as YAML reads them. `null` or nothing is none where a field may be unset."""
    if text in ("", "null") and _may_be_unset(key.strip().split(".")):
        if text and os.path.lexists(text):
            raise SpecError(
                f"{sign} {key}={text}: null means none, but there is a file of that name; for it write ./{text}"
            )
        return None
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and not os.path.lexists(text):
        return str(load(text, f"{sign} {key}"))
    return text


def _read(key: str, text: str, sign: str) -> Any:
    """A value as YAML, without what would be dropped from it in silence."""
    found = DROPPED.search(text)
    if found is not None and not text.lstrip().startswith(("'", '"')):
        quoted = text.replace('"', "")
        raise SpecError(
            f"{sign} {key}={text}: YAML does not read {found[0].strip()!r} as text; write {sign} '{key}=\"{quoted}\"'"
        )
    return load(text, f"{sign} {key}")


def _takes_text(parts: Sequence[str]) -> bool:
    """Whether a field holds a text or a path, and nothing that YAML would have to read."""
    kinds = [kind for kind in kinds_of(parts) if kind is not type(None)]
    return bool(kinds) and all(kind in (str, Path) or is_words(kind) for kind in kinds)


def _may_be_unset(parts: Sequence[str]) -> bool:
    return type(None) in kinds_of(parts)


def kinds_of(parts: Sequence[str]) -> list[Any]:
    """What the config field of that dotted key may hold; nothing for a key that is none."""
    kinds: list[Any] = [Config]
    for part in parts:
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        kinds = [kind for field in fields for kind in alternatives(field.annotation)]
    return kinds


def is_words(kind: Any) -> bool:
    """Whether it is one of some words."""
    return get_origin(kind) is Literal and all(isinstance(word, str) for word in get_args(kind))


def build(layers: Sequence[Layer], overrides: Sequence[Layer], seed: int) -> Config:
    """The config that the layers and then the overrides say. Raises SpecError, all faults in one line."""
    merged: dict[str, Any] = {}
    every = [*layers, *overrides]
    for layer in every:
        if "seed" in layer.values:
            raise SpecError(f"{layer.source}: seed: a row has no seed of its own; give --seeds")
        merged = merge(merged, normal(layer.values), layer.whole)
    try:
        # Strict, so that text where a number belongs is refused; as JSON, so that lists and paths are accepted.
        return Config.model_validate_json(json.dumps(merged | {"seed": seed}), strict=True)
    except ValidationError as error:
        faults = [_blamed(fault, every, layers[-1]) + fault.text for fault in describe(error, Config)]
        raise SpecError("; ".join(faults)) from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any], whole: bool, at: tuple[str, ...] = ()) -> dict[str, Any]:
    """`below` with the values of `above`; mappings are merged, except the loss weights if `whole`."""
    merged = dict(below)
    for key, value in above.items():
        path = (*at, key)
        under = merged.get(key)
        replaced = whole and path == REPLACED_WHOLE
        if isinstance(value, Mapping) and isinstance(under, Mapping) and not replaced:
            merged[key] = merge(under, value, whole, path)
        else:
            merged[key] = value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose leaves differ, with both values (None where there is none), in the order of `new`."""
    before, after = flatten(old), flatten(new)
    keys = [*after, *(key for key in before if key not in after)]
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def normal(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(values.get("fidelity"), str):
        return {**values, "fidelity": {"preset": values["fidelity"]}}
    return values


def _blamed(fault: Fault, layers: Sequence[Layer], row: Layer) -> str:
    """The last layer that sets the field, or else anything in its section, or else the row; nobody if it is not set."""
    # A rule of the whole config has no location, but its message starts with the field.
    path = fault.path or tuple(fault.text.split(" ")[0].rstrip(":").split("."))
    if fault.text.startswith(f"{'.'.join(path)} is not set"):
        return ""  # it is the user's to give
    for length in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _touches(normal(layer.values), path[:length]):
                return f"{layer.source}: "
    return f"{row.source}: "


def _touches(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
