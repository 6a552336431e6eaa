"""JSON Schema of the files that people write, for editors: keys, what may stand there, a sentence for each.

An editor sees one file at a time, so rules over several fields are not in it; `rasa plan` has them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.fields import fields
from experiments.suite import Profile, Suite
from rasa.config.run import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONFIG = "Config"
Schema = dict[str, Any]
REF = {"$ref": f"#/$defs/{CONFIG}"}


def suite_schema() -> Schema:
    """Of a suite's file."""
    schema = _of(Suite.model_json_schema(), "A suite of experiments")
    defs = schema["$defs"]
    for part in (schema, defs["Row"]):
        part["properties"]["at"]["additionalProperties"] = REF
    _config_at(schema, "base")
    _config_at(defs["Row"], "changes")
    grid = defs["Row"]["properties"]["grid"]
    grid["properties"] = {name: _listed(sentence) for name, sentence in _named()}
    point = next(kind for kind in defs["Sweep"]["properties"]["points"]["items"]["anyOf"] if "properties" in kind)
    _config_at(point, "changes")
    parameter = defs["Sweep"]["properties"]["parameter"]
    parameter["anyOf"] = [{"enum": [name for name, _ in _named()]}, {"type": parameter.pop("type")}]
    return schema


def profile_schema() -> Schema:
    """Of a profile's file."""
    schema = _of(Profile.model_json_schema(), "A profile: at which size and on which data rows run")
    _config_at(schema, "config")
    return schema


def with_config(schema: Schema, title: str, base: str, parameters: str) -> Schema:
    """Of another kind of file, in which `base` is a part of a config and `parameters` are dotted config fields."""
    schema = _of(schema, title)
    _config_at(schema, base)
    searched = schema["properties"][parameters]
    kind = searched["additionalProperties"]
    searched["properties"] = {name: {**kind, "description": sentence} for name, sentence in _named()}
    return schema


def config_part() -> tuple[Schema, Schema]:
    """A config of which any field may be left out, and the definitions that it needs."""
    whole = Config.model_json_schema()
    defs: Schema = whole.pop("$defs")
    whole["properties"].pop("seed")  # given by --seeds
    preset = {"enum": ["paper", "released"], "description": "Both readings set all of these fields."}
    whole["properties"]["fidelity"] = {"anyOf": [preset, {"$ref": "#/$defs/Fidelity"}]}
    for part in (whole, *defs.values()):
        part.pop("required", None)
        for field in part.get("properties", {}).values():
            field.pop("default", None)  # here what is left out is as in the layer below
            field.pop("identity", None)
    return whole, defs


def _of(schema: Schema, title: str) -> Schema:
    """The schema with the config's among its definitions."""
    part, defs = config_part()
    own = schema.pop("$defs", {})
    return {"$schema": DIALECT, **schema, "title": title, "$defs": {**own, **defs, CONFIG: part}}


def _config_at(part: Schema, key: str) -> None:
    described = {"description": part["properties"][key]["description"]}
    part["properties"][key] = {**REF, **described}


def _listed(sentence: str) -> Mapping[str, Any]:
    return {"type": "array", "minItems": 1, "description": sentence}


def _named() -> Iterator[tuple[str, str]]:
    """Every field of values by its dotted name, and its sentence."""
    yield from ((field.name, field.sentence) for field in fields() if field.model is None and field.name != "seed")
