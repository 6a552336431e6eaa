"""One config field explained: what it is, what may stand there, what the paper has, and which named specs set it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from experiments import sources
from experiments.fields import Field, fields, section_of, shown
from experiments.layers import flatten, normal
from experiments.spec import load_profile, load_suite, profile_names, resolve_without_data, suite_names
from experiments.suite import Suite
from experiments.wording import nearest_keys
from rasa.config.fidelity import PRESETS
from rasa.config.run import Config
from rasa.errors import SpecError

# What counts for a run id by its content, whatever its place is called.
BY_CONTENT = ("data.root", "data.synthetic", "data.target.root", "model.weights")


class Setting(NamedTuple):
    """A named spec that sets a field."""

    where: str  # `table4, all rows`, `table4/itm, itm-prd`, `figure4/p-weak`, `profile synth`
    value: str


class Explained(NamedTuple):
    """A field, the paper's value of it and where that stands, and who sets it."""

    field: Field
    paper: str
    source: str
    run_id: str
    settings: list[Setting]


def find(name: str) -> Field:
    """The field of that dotted name, or the only one that ends like it. Raises SpecError with the nearest names."""
    known = {field.name: field for field in fields()}
    ending = [path for path in known if path.endswith(f".{name}")]
    if name in known or len(ending) == 1:
        return known[name if name in known else ending[0]]
    if len(ending) > 1:
        raise SpecError(f"{name} may be {' or '.join(ending)}; give one of them")
    near = nearest_keys(name, Config) or [path for path in _of_files() if path.endswith(f".{name}")]
    raise SpecError(f"no config field {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else _sections()))


def explain(name: str) -> Explained:
    """All that is known of a field. Raises SpecError."""
    field = find(name)
    paper = ""
    if field.model is None and field.name != "seed":
        values = _as_flat(_paper_config().model_dump(mode="json"))
        paper = shown(values[field.name]) if field.name in values else ("off" if _is_loss(field.name) else "")
    source = sources.source(field.name) if paper else ""
    if (preset := field.name.removeprefix("fidelity.")) in PRESETS and not source:
        released, text = map(shown, PRESETS[preset])
        paper, source = text, f"its text, as the sentence says; the published numbers, by released code: {released}"
    return Explained(field, paper, source, _run_id(field), list(settings(field.name)) if field.model is None else [])


def lines(found: Explained) -> Iterator[str]:
    """As a person reads it."""
    yield f"{found.field.name}: {found.field.sentence}"
    yield ""
    yield f"  may be   {found.field.kind}"
    yield f"  default  {found.field.default}"
    if found.paper:
        yield f"  paper    {found.paper} ({found.source or 'as the profile paper has it'})"
    yield f"  run id   {found.run_id}"
    for number, setting in enumerate(found.settings):
        yield f"  {'' if number else 'set by':8} {setting.where}: {setting.value}"


def document(found: Explained) -> dict[str, Any]:
    """As a program reads it."""
    field = found.field
    paper = {"value": found.paper, "source": found.source or "profile paper"} if found.paper else None
    return {
        "field": field.name,
        "sentence": field.sentence,
        "type": field.kind,
        "default": field.default,
        "paper": paper,
        "run_id": found.run_id,
        "set_by": [each._asdict() for each in found.settings],
    }


def below(field: Field) -> list[Field]:
    """The fields of a section, those of its own sections left out."""
    inside = [each for each in fields() if each.name.startswith(f"{field.name}.")]
    return [each for each in inside if "." not in each.name.removeprefix(f"{field.name}.")]


def of_file(name: str) -> tuple[str, str] | None:
    """A field of a suite's own file, as `rows.grid` or `grid`, and its sentence; None if there is none."""
    known = _of_files()
    found = [path for path in known if path == name or path.endswith(f".{name}")]
    return (found[0], known[found[0]]) if found else None


def settings(name: str) -> Iterator[Setting]:
    """Who sets a field among the named profiles and suites; rows of one suite that say the same together."""
    for profile in map(load_profile, profile_names()):
        if (value := _said(profile.config, name)) is not None:
            yield Setting(f"profile {profile.profile}", value)
    for suite in map(load_suite, suite_names()):
        yield from _of_suite(suite, name)


def _of_suite(suite: Suite, name: str) -> Iterator[Setting]:
    if (value := _said(suite.base, name)) is not None:
        yield Setting(f"{suite.suite}, all rows", value)
    for profile, changes in suite.at.items():
        if (value := _said(changes, name)) is not None:
            yield Setting(f"{suite.suite} at {profile}", value)
    swept = {row: sweep for sweep in suite.sweeps for row in sweep.row_names.values()}
    by_value: dict[tuple[str, str], list[str]] = {}
    for row in suite.rows:
        if row.name not in swept or not _covers(name, swept[row.name].parameter):
            for profile, changes in (("", row.changes), *row.at.items()):
                if (value := _said(changes, name)) is not None:
                    by_value.setdefault((profile, value), []).append(row.name)
    for (profile, value), rows in by_value.items():
        yield Setting(f"{suite.suite}/{', '.join(rows)}" + (f" at {profile}" if profile else ""), value)
    for sweep in suite.sweeps:
        if _covers(name, sweep.parameter):
            part = f"{sweep.parameter.rpartition('.')[2]} " if sweep.parameter != name else ""
            yield Setting(f"{suite.suite}/{sweep.name}", part + ", ".join(map(str, sweep.keys)))


def _covers(name: str, parameter: str) -> bool:
    return parameter == name or parameter.startswith(f"{name}.")


def _said(values: Mapping[str, Any], name: str) -> str | None:
    """What a layer of values says of a field, as text; None if nothing."""
    found = _as_flat(normal(values))
    return shown(found[name]) if name in found else None


def _as_flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every leaf by its dotted name, and the mapping of losses as a whole, too."""
    found = flatten(values)
    weights = values.get("objectives", {}).get("weights")
    return found | ({"objectives.weights": weights} if weights else {})


def _paper_config() -> Config:
    return resolve_without_data(load_suite("table4"), "m-rtd", "paper", ())[0]


def _is_loss(name: str) -> bool:
    return name.startswith("objectives.weights.")


def _run_id(field: Field) -> str:
    if field.name.startswith(BY_CONTENT) and not field.counts:
        return "by content: another folder of the same bytes is the same run"
    if field.name == "data.target.synthetic":
        return "by the content of what it makes"
    return "part of it" if field.counts else "not part of it: where or how fast, not what is computed"


def _sections() -> str:
    return f"; the sections are {', '.join(field.name for field in fields() if field.model and '.' not in field.name)}"


def _of_files(model: type[BaseModel] = Suite, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, info in model.model_fields.items():
        found[prefix + name] = info.description or ""
        inner = [kind for kind in getattr(info.annotation, "__args__", ()) if section_of(kind)]
        for kind in inner:
            found |= _of_files(kind, f"{prefix}{name}.")
    return found
