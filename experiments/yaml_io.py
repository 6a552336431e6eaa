"""YAML in and out: `1e-5` is a number, a duplicate key is an error, and no file can build a Python object."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from rasa.errors import SpecError


class _Constructor(SafeConstructor):
    """Numbers, text, true, false, null, lists and mappings with text for keys; a date stays text."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep=deep)


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


class _Representer(SafeRepresenter):
    """Readable by any YAML reader, also one that takes `1e-05` for text."""

    def represent_float(self, data: float) -> ScalarNode:
        node = super().represent_float(data)
        if "e" in node.value and "." not in node.value:
            node.value = node.value.replace("e", ".0e")
        return node

    def represent_list(self, data: Any, flow_style: Any = None) -> SequenceNode:
        node = super().represent_list(data)
        node.flow_style = all(isinstance(item, ScalarNode) for item in node.value)
        return node


_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(list, _Representer.represent_list)
_Representer.add_representer(tuple, _Representer.represent_list)


def load(text: str, source: str) -> Any:
    """The value that `text` holds. Raises SpecError naming `source` and the line."""
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            # An alias could contain itself or unfold to any size; a row that repeats another one extends it.
            if isinstance(event, AliasEvent):
                raise MarkedYAMLError(problem="an alias (*) is not supported", problem_mark=event.start_mark)
        return reader.load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{source}{_line(error)}: {_problem(error)}") from error


def load_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that `text` holds at its top level."""
    value = load(text, source)
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise SpecError(f"{source}: a mapping of keys to values is expected at the top, found {found}")
    return value


def dump(value: Any) -> str:
    """`value` (mappings, lists, scalars) as YAML, keys in their own order, short lists on one line."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _Representer
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None alone
    writer.width = 110
    stream = StringIO()
    writer.dump(value, stream)
    return stream.getvalue().removesuffix("...\n")


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f":{mark.line + 1}" if mark else ""


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or str(error)
    return " ".join(problem.split())
