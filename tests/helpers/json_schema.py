"""Whether a value follows a JSON Schema: the keywords that ours use, and no others, so that none is passed over."""

import re

KINDS = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
KINDS["null"] = type(None)
SAID = {"$schema", "$defs", "title", "description", "default", "format"}  # which refuse nothing
BOUNDS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
    "maxLength": lambda value, bound: len(value) <= bound,
    "pattern": lambda value, pattern: re.search(pattern, value) is not None,
}


def faults(value, schema, root=None, at=""):
    """What does not follow the schema, as `place: why`."""
    root = root or schema
    found = []
    for keyword, told in schema.items():
        found += list(_of_keyword(value, schema, root, at, keyword, told))
    return found


def _of_keyword(value, schema, root, at, keyword, told):
    if keyword == "$ref":
        yield from faults(value, root["$defs"][told.rpartition("/")[2]], root, at)
    elif keyword == "type":
        kinds = [told] if isinstance(told, str) else told
        if not any(_is(value, kind) for kind in kinds):
            yield f"{at}: {value!r} is no {told}"
    elif keyword == "enum":
        if value not in told:
            yield f"{at}: {value!r} is none of {told}"
    elif keyword == "const":
        if value != told:
            yield f"{at}: {value!r} is not {told}"
    elif keyword == "anyOf":
        if all(faults(value, each, root, at) for each in told):
            yield f"{at}: {value!r} is none of these"
    elif keyword in BOUNDS:
        measured = {"m": (list, dict, str) if "I" in keyword or "P" in keyword or "L" in keyword else (int, float)}["m"]
        if isinstance(value, str if keyword == "pattern" else measured) and not BOUNDS[keyword](value, told):
            yield f"{at}: {value!r} against {keyword} {told}"
    elif keyword in ("items", "prefixItems"):
        if isinstance(value, list):
            places = told if keyword == "prefixItems" else [told] * len(value)
            for number, (each, own) in enumerate(zip(value, places, strict=False)):
                yield from faults(each, own, root, f"{at}.{number}")
    elif keyword == "properties":
        if isinstance(value, dict):
            for name in value.keys() & told.keys():
                yield from faults(value[name], told[name], root, f"{at}.{name}")
    elif keyword == "additionalProperties":
        for name in value.keys() - schema.get("properties", {}).keys() if isinstance(value, dict) else ():
            if told is False:
                yield f"{at}.{name}: unknown"
            elif told is not True:
                yield from faults(value[name], told, root, f"{at}.{name}")
    elif keyword == "propertyNames":
        for name in value if isinstance(value, dict) else ():
            yield from faults(name, told, root, f"{at}.{name}")
    elif keyword == "required":
        if isinstance(value, dict) and (missing := set(told) - set(value)):
            yield f"{at}: without {missing}"
    elif keyword not in SAID:
        raise NotImplementedError(keyword)


def _is(value, kind):
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
