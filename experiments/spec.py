"""What a suite, its rows and a profile say, and the typed config that they resolve to.

Layers, later ones win: the profile's config, the suite's `base`, the row's `changes`, `-o key=value`, the seed. What a
suite or a row says `at` the profile that is run comes right after its base or changes.
A row that `extends` another one starts from that row's base and changes.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

from experiments.environment import content_digest
from experiments.layers import Layer, build, merge, parse_override
from experiments.wording import describe, did_you_mean
from experiments.yaml_io import load_mapping
from rasa.config.run import Config
from rasa.errors import ResourceError, SpecError
from rasa.weights import start

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 60
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$", max_length=LONGEST_NAME)]
# As runs report them on the test split; tr_ is the search for texts, and ap50 that for images by a class (A.3).
Metric = Literal["r1", "r5", "r10", "map", "tr_r1", "tr_r5", "tr_r10", "ap50"]
# Every figure that a table may have, and its heading. R@K and AP@50 are of a text (or class) that asks for images,
# which Tables 5 and 6 call IR; TR: an image asks for texts.
HEADINGS = {
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "map": "mAP",
    "ap50": "AP@50",
    "tr_r1": "TR R@1",
    "tr_r5": "TR R@5",
    "tr_r10": "TR R@10",
}
PaperTable = Literal["table1", "table2", "table3", "table4", "table5", "table6", "table7", "table8"]
AT = "Config fields that are set at one profile only, by the profile's name."
FILE = re.compile(r"(?P<file>.*\.ya?ml)(?:/(?P<row>[^/]*))?")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Spec):
    """One line of a suite's table: one way to compose the method."""

    name: Name = Field(description="Names the row in commands, folders and records.")
    labels: tuple[str, ...] = Field((), description="The row's cells in the suite's label columns; none: its name.")
    extends: str | None = Field(None, description="`suite/row` from whose base and changes this row starts.")
    versus: str | None = Field(None, description="The row of this suite of which this one is a step further.")
    changes: dict[str, Any] = Field({}, description="Config fields, nested as in the config, that the row sets.")
    other_weights: Literal["off", "kept"] = Field(
        "off", description="Losses that changes.objectives.weights does not name: off, or as in the row it extends."
    )
    at: dict[str, dict[str, Any]] = Field({}, description=AT)
    paper: dict[Metric, float] | None = Field(None, description="The published values in percent.")


class Point(_Spec):
    """One value of a sweep, and what else must change with it."""

    value: float | int = Field(description="The parameter's value.")
    changes: dict[str, Any] = Field({}, description="Config fields that this value needs besides.")


class Sweep(_Spec):
    """One parameter over several values, all else as in one row: the rows `NAME-VALUE` of its suite."""

    name: Name = Field(description="Names the sweep in commands; `suite/name` means all its rows.")
    label: str = Field(description="What the points share, in the table: the parameter as the paper writes it.")
    parameter: str = Field(description="Dotted config field, e.g. objectives.p_weak; sweeps of one share a panel.")
    axis: str = Field("", description="The parameter under its panel; none: the label.")
    extends: str = Field(description="`suite/row` that all points start from.")
    points: tuple[float | int | Point, ...] = Field(min_length=2, description="Values, by size.")
    versus: str | None = Field(None, description="The sweep of which each point is a step further at its value.")
    paper_best: float | None = Field(None, description="The value that the paper finds best.")

    @model_validator(mode="after")
    def _points_rise(self) -> "Sweep":
        values = [point.value for point in self.by_value]
        if values != sorted(set(values)):
            raise ValueError(f"sweeps.{self.name}.points: {values} do not rise")
        if self.paper_best is not None and self.paper_best not in values:
            raise ValueError(f"sweeps.{self.name}.paper_best: {self.paper_best} is none of the points {values}")
        return self

    @property
    def by_value(self) -> tuple[Point, ...]:
        """The points, those that are mere values too."""
        return tuple(point if isinstance(point, Point) else Point(value=point) for point in self.points)

    @property
    def compares(self) -> bool:
        """Whether its points answer the same questions: not if each has data of its own."""
        return not self.parameter.startswith("data.")

    def row_name(self, point: Point) -> str:
        """E.g. `p-weak-0.1`."""
        return f"{self.name}-{point.value}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows that it stands for, as a suite's file would have them."""
        for point in self.by_value:
            nested: Any = point.value
            for part in reversed(self.parameter.split(".")):
                nested = {part: nested}
            yield {
                "name": self.row_name(point),
                "labels": [self.label, str(point.value)],
                "extends": self.extends,
                "versus": f"{self.versus}-{point.value}" if self.versus else None,
                "changes": merge(nested, point.changes, whole=True),
                "other_weights": "kept" if self.parameter.startswith("objectives.weights.") else "off",
            }


class SpecFile(_Spec):
    """What a whole YAML file holds."""

    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """The file's name, as messages give it."""
        return self._file


class Suite(SpecFile):
    """A table of rows that differ in what they learn, all else equal."""

    suite: Name = Field(description="Names the suite in commands, folders and records.")
    title: str = Field("", description="One line that says what the rows compare.")
    source: str = Field("", description="Where the published values stand.")
    published: PaperTable | None = Field(None, description="The paper's table of which the rows are lines, by name.")
    labels: tuple[str, ...] = Field(("Row",), min_length=1, description="Headings of the label columns.")
    metrics: tuple[Metric, ...] = Field(("r1", "r5", "r10", "map"), description="Columns of the table.")
    profile: str = Field("smoke", description="Profile that is taken when none is asked for.")
    expected_minutes: dict[str, float] = Field({}, description="Minutes per row, by profile.")
    base: dict[str, Any] = Field({}, description="Config fields that all rows set.")
    at: dict[str, dict[str, Any]] = Field({}, description=AT)
    rows: tuple[Row, ...] = Field((), description="The rows in the table's order.")
    sweeps: tuple[Sweep, ...] = Field(
        (), description="One parameter after the other over several values; rows of their own."
    )

    @model_validator(mode="after")
    def _swept(self) -> "Suite":
        rows = [Row.model_validate(row) for sweep in self.sweeps for row in sweep.rows()]
        if not self.rows and not rows:
            raise ValueError("rows: a suite needs at least one row, or a sweep")
        if rows and self.rows[-len(rows) :] != tuple(rows):  # else they are there, from a dump of this suite
            object.__setattr__(self, "rows", (*self.rows, *rows))
        return self

    @model_validator(mode="after")
    def _rows_fit(self) -> "Suite":
        names = [row.name for row in self.rows]
        for number, row in enumerate(self.rows):
            if row.name == start.NAME:
                raise ValueError(
                    f"rows: {start.NAME} is the line of the weights before training; name the row otherwise"
                )
            if row.name in names[:number]:
                raise ValueError(f"rows: the name {row.name} is given twice")
            if row.labels and len(row.labels) != len(self.labels):
                raise ValueError(f"rows.{row.name}.labels has {len(row.labels)} cells, labels {len(self.labels)}")
            if row.versus is not None and row.versus not in set(names) - {row.name}:
                hint = did_you_mean(row.versus, [name for name in names if name != row.name])
                raise ValueError(f"rows.{row.name}.versus: no other row {row.versus}{hint}")
        return self

    def row(self, name: str) -> Row:
        """The row of that name; SpecError with the nearest names if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise SpecError(f"{self.file}: no row {name!r}{did_you_mean(name, [row.name for row in self.rows])}")

    def labels_of(self, row: Row) -> dict[str, str]:
        """The row's cells by the label columns' headings."""
        return dict(zip(self.labels, row.labels or (row.name, *[""] * (len(self.labels) - 1)), strict=True))


class Profile(SpecFile):
    """At which size and on which data a suite's rows run."""

    profile: Name = Field(description="Names the profile in commands, folders and records.")
    title: str = Field("", description="One line that says what it is for.")
    config: dict[str, Any] = Field(description="Config fields, nested as in the config.")


_S = TypeVar("_S", bound=SpecFile)


def suite_names() -> list[str]:
    """Names of the built-in suites."""
    return _names(files("experiments") / "specs")


def profile_names() -> list[str]:
    """Names of the built-in profiles."""
    return _names(files("experiments") / "specs" / "profiles")


def load_suite(name_or_path: str) -> Suite:
    """A built-in suite by name, or the user's own file. Raises SpecError."""
    folder = files("experiments") / "specs"
    return load_named(Suite, "suite", name_or_path, suite_names(), lambda name: (folder / name, name))


def load_profile(name: str) -> Profile:
    """A built-in profile by name, or the user's own file. Raises SpecError."""
    folder = files("experiments") / "specs" / "profiles"
    return load_named(Profile, "profile", name, profile_names(), lambda name: (folder / name, f"profiles/{name}"))


def load_named(
    model: type[_S],
    field: str,
    name_or_path: str,
    built_in: Sequence[str],
    file_of: Callable[[str], tuple[Traversable, str]],
    noun: str = "",
) -> _S:
    """A built-in spec by name, or the user's own file, whose `field` names it. Raises SpecError.

    `file_of` gives a built-in one's file, and how it is shown, by the file's name. A file of the user's may not take a
    built-in name for something else.
    """
    if not FILE.fullmatch(name_or_path):
        if name_or_path not in built_in:
            hint = did_you_mean(name_or_path, built_in)
            raise SpecError(f"no {noun or field} {name_or_path!r} (a file ends in .yaml){hint}")
        file, shown = file_of(f"{name_or_path}.yaml")
        return read_spec(model, file, shown)
    spec = read_spec(model, Path(name_or_path), name_or_path)
    own = getattr(spec, field)
    if own in built_in and spec.model_dump() != load_named(model, field, own, built_in, file_of).model_dump():
        raise SpecError(f"{name_or_path}: {field}: {own} is a built-in {field}; give yours another name")
    return spec


def parse_target(target: str) -> tuple[Suite, list[Row]]:
    """The suite and the rows that `table4`, `table4/m-rtd`, `figure4/p-weak`, `my.yaml` or `my.yaml/row` names."""
    matched = FILE.fullmatch(target)
    name, row = (matched["file"], matched["row"]) if matched else (target.split("/", 1) + [None])[:2]
    suite = load_suite(name or "")
    if sweep := next((sweep for sweep in suite.sweeps if sweep.name == row), None):
        return suite, [suite.row(sweep.row_name(point)) for point in sweep.by_value]
    return suite, list(suite.rows) if row is None else [suite.row(row)]


def resolve(suite: Suite, row: Row | str, profile_name: str, overrides: Sequence[str], seed: int) -> Config:
    """The config of one run. Raises SpecError, one line that names the file and the field."""
    row = suite.row(row) if isinstance(row, str) else row
    profile = load_profile(profile_name)
    layers = [Layer(profile.file, profile.config), *_layers_of(suite, row, profile.profile)]
    return build(layers, [parse_override(text) for text in overrides], seed)


def row_digest(config: Config) -> str:
    """12 hex digits that are equal for runs that differ in nothing but the seed: what makes rows comparable."""
    return seedless_digest(identity_of(config))


def seedless_digest(identity: Mapping[str, Any]) -> str:
    """12 hex digits of an identity without its seed."""
    return short_digest({name: value for name, value in identity.items() if name != "seed"})


def identity_of(config: Config) -> dict[str, Any]:
    """The config's identity, in which a local vocabulary or generator is named by its content and not by its path."""
    identity = config.identity()
    for section, key in (("data", "tokenizer"), ("objectives", "masked_lm")):
        if (path := local_path(identity[section][key])) is not None:
            try:
                identity[section][key] = f"sha256:{content_digest(path)}"
            except OSError as error:
                raise ResourceError(f"{section}.{key}: {path}: {error.strerror}; give one that can be read") from error
    return identity


def local_path(name: str) -> Path | None:
    """The absolute path of a vocabulary or generator that lies on this machine; None for a mere name."""
    if name == start.NAME:
        return start.VOCABULARY
    path = Path(name).expanduser().absolute()
    return path if name != "captions" and path.exists() else None


def short_digest(value: Any) -> str:
    """12 hex digits of the SHA-256 of `value` as canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _layers_of(suite: Suite, row: Row, profile: str) -> Iterator[Layer]:
    whole = row.other_weights == "off"
    own = _with_at(f"{suite.file}, row {row.name}", row.changes, row.at, profile, whole)
    base = _with_at(f"{suite.file}, base", suite.base, suite.at, profile)
    if row.extends is None:
        yield from (*base, *own)
        return
    origin, start = _extended(suite, row)
    yield from _with_at(f"{origin.file}, base", origin.base, origin.at, profile)
    yield from _with_at(f"{origin.file}, row {start.name}", start.changes, start.at, profile)
    # Within one suite the base is under both rows already; again on top it would undo the extended row.
    yield from own if origin is suite else (*base, *own)


def _with_at(
    source: str, values: dict[str, Any], at: dict[str, dict[str, Any]], profile: str, whole: bool = True
) -> list[Layer]:
    """The layer of `values`, and on it what is set at this profile."""
    layers = [Layer(source, values, whole)]
    return [*layers, Layer(f"{source}, at.{profile}", at[profile], whole)] if profile in at else layers


def _extended(suite: Suite, row: Row) -> tuple[Suite, Row]:
    name, slash, start_name = (row.extends or "").rpartition("/")
    if not slash:
        raise SpecError(f"{suite.file}, row {row.name}: extends: write suite/row ({row.extends})")
    origin = suite if name == suite.suite else load_suite(name)
    start = origin.row(start_name)
    if start.extends is not None:
        raise SpecError(
            f"{suite.file}, row {row.name}: extends: {row.extends} itself extends {start.extends}; "
            "one level only, so extend that one and repeat the changes"
        )
    return origin, start


def _names(folder: Traversable) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_spec(model: type[_S], file: Traversable, shown: str) -> _S:
    """The file as `model`. Raises SpecError with one line that names it as `shown`, the field and the remedy."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{shown}: cannot be read ({reason})") from error
    return _parsed(model, text, shown)


@cache
def _parsed(model: type[_S], text: str, shown: str) -> _S:
    """The text as `model`; a plan asks for the same profile and suites again and again."""
    values = load_mapping(text, shown)
    try:
        spec = model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise SpecError(f"{shown}: " + "; ".join(fault.text for fault in describe(error, model))) from error
    spec._file = shown
    return spec
