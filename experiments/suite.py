"""What a suite's file and a profile's hold: rows, grids and sweeps, and the rows that these stand for."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from experiments import values
from experiments.layers import flatten, merge
from experiments.wording import did_you_mean
from rasa.errors import SpecError
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
WEIGHTS = "objectives.weights."
MOST_ROWS = 1000  # of a grid
Key = float | str
AT = "Config fields that are set at one profile only, by the profile's name."


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Spec):
    """One line of a suite's table: one way to compose the method."""

    _source: str = PrivateAttr("")  # how a message names a row that no file has
    name: Name = Field(description="Names the row in commands, folders and records.")
    labels: tuple[str, ...] = Field((), description="The row's cells in the suite's label columns; none: its name.")
    description: str = Field("", description="What the row is, in a sentence, where its labels do not say it.")
    extends: str | None = Field(None, description="`suite/row` from whose base and changes this row starts.")
    versus: str | None = Field(
        None,
        description=(
            "The row of this suite of which this one is a step further; left out: the one that it extends, if that is "
            "in this suite; null: none."
        ),
    )
    changes: dict[str, Any] = Field({}, description="Config fields, nested as in the config, that the row sets.")
    other_weights: Literal["off", "kept"] = Field(
        "off", description="Losses that changes.objectives.weights does not name: off, or as in the row it extends."
    )
    at: dict[str, dict[str, Any]] = Field({}, description=AT)
    grid: dict[str, Any] = Field(
        {}, description="Config fields, each with a list of values: a row for every combination, `NAME-FIELD-VALUE...`."
    )
    paper: dict[Metric, float] | None = Field(None, description="The published values in percent.")


class Point(_Spec):
    """One value of a sweep, and what else must change with it."""

    value: Annotated[Any, BeforeValidator(values.checked)] = Field(description="A number, a word, true, false, null.")
    changes: dict[str, Any] = Field({}, description="Config fields that this value needs besides.")


def _point(given: Any) -> Any:
    return given if isinstance(given, dict | Point) else {"value": given}


_POINT = {"anyOf": [{"type": ["number", "string", "boolean", "null", "array"]}, Point.model_json_schema()]}


class Sweep(_Spec):
    """One parameter over several values, all else as in one row: the rows `NAME-VALUE` of its suite."""

    name: Name = Field(description="Names the sweep in commands; `suite/name` means all its rows.")
    label: str = Field(description="What the points share, in the table: the parameter as the paper writes it.")
    parameter: str = Field(description="Dotted config field, e.g. objectives.p_weak; sweeps of one share a panel.")
    axis: str = Field("", description="The parameter under its panel; none: the label.")
    extends: str = Field(description="`suite/row` that all points start from.")
    points: tuple[Annotated[Point, BeforeValidator(_point), WithJsonSchema(_POINT)], ...] = Field(
        min_length=2, description="Values: numbers by size, or words and the like in the order of the table."
    )
    versus: str | None = Field(None, description="The sweep of which each point is a step further at its value.")
    paper_best: float | str | None = Field(None, description="The value that the paper finds best.")

    @model_validator(mode="after")
    def _points_rise(self) -> "Sweep":
        given = [point.value for point in self.points]
        if self.numeric and given != sorted(set(given)):
            raise ValueError(f"sweeps.{self.name}.points: {given} do not rise")
        if len(set(self.keys)) < len(given):
            raise ValueError(f"sweeps.{self.name}.points: {', '.join(map(str, self.keys))}: a value is given twice")
        if self.paper_best is not None and self.paper_best not in self.keys:
            shown = ", ".join(map(str, self.keys))
            raise ValueError(f"sweeps.{self.name}.paper_best: {self.paper_best} is none of the points {shown}")
        return self

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, with an order and distances."""
        return all(values.is_number(point.value) for point in self.points)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Its values in the order of the points, as reports know them: numbers, or else their texts."""
        return tuple(point.value if self.numeric else values.text(point.value) for point in self.points)

    @property
    def compares(self) -> bool:
        """Whether its points answer the same questions: not if each has data of its own."""
        return not self.parameter.startswith("data.")

    @property
    def row_names(self) -> dict[Key, str]:
        """The row of each value, e.g. `p-weak-0.1`."""
        return {key: self._row_name(point) for key, point in zip(self.keys, self.points, strict=True)}

    def _row_name(self, point: Point) -> str:
        return f"{self.name}-{values.name_part(point.value)}"

    def rows(self, cells: int = 2) -> Iterator[dict[str, Any]]:
        """The rows that it stands for, as a suite's file with so many label columns would have them."""
        for point in self.points:
            value, versus = values.text(point.value), f"{self.versus}-{values.name_part(point.value)}"
            nested = values.nested({self.parameter: point.value})
            yield {
                "name": self._row_name(point),
                "labels": [self.label, value, *[""] * (cells - 2)] if cells > 1 else [f"{self.label} {value}"],
                "extends": self.extends,
                "versus": versus if self.versus else None,
                "changes": merge(nested, point.changes, whole=True),
                "other_weights": "kept" if self.parameter.startswith(WEIGHTS) else "off",
            }


def _is_unchanged(row: Row, extends: str) -> bool:
    return row.extends == extends and not row.changes and not row.at


def gridded(row: Row) -> list[Row]:
    """The row, or the rows that its grid stands for. Raises ValueError."""
    if not row.grid:
        return [row]
    where, fields = f"rows.{row.name}.grid", flatten(row.grid)
    for field, given in fields.items():
        if not isinstance(given, list) or not given:
            raise ValueError(f"{where}.{field}: give a list of values, e.g. [0.1, 0.3]")
    if row.paper:
        raise ValueError(f"rows.{row.name}.paper: the rows of a grid have no published value of their own")
    if (count := math.prod(map(len, fields.values()))) > MOST_ROWS:
        raise ValueError(f"{where} stands for {count} rows; {MOST_ROWS} at most")
    try:
        return [_of_grid(row, point) for point in values.product(fields)]
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None


def _of_grid(row: Row, point: dict[str, Any]) -> Row:
    """One combination of a grid: the row with these fields set."""
    name = values.row_name(row.name, point, LONGEST_NAME)
    told = values.told(point)
    # Of losses that only the grid names, the others are as in the row that is extended.
    states_losses = "weights" in row.changes.get("objectives", {})
    keeps = not states_losses and any(field.startswith(WEIGHTS) for field in point)
    update = {
        "name": name,
        "labels": (*row.labels[:-1], ", ".join(filter(None, (row.labels[-1], told)))) if row.labels else (),
        "changes": merge(row.changes, values.nested(point), whole=False),
        "other_weights": "kept" if keeps else row.other_weights,
        "grid": {},
    }
    return row.model_copy(update=update)


class SpecFile(_Spec):
    """What a whole YAML file holds."""

    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """The file's name, as messages give it."""
        return self._file


class Suite(SpecFile):
    """A table of rows that differ in what they learn, all else equal."""

    _asked: tuple[str, ...] = PrivateAttr(())
    _of: int = PrivateAttr(0)

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
    ablate: str | None = Field(
        None, description="`suite/row`: rows of it without each objective in turn, and without what needs that."
    )
    sweeps: tuple[Sweep, ...] = Field(
        (), description="One parameter after the other over several values; rows of their own."
    )

    @model_validator(mode="after")
    def _expanded(self) -> "Suite":
        rows = [each for row in self.rows for each in gridded(row)]
        swept = [Row.model_validate(row) for sweep in self.sweeps for row in sweep.rows(len(self.labels))]
        if not rows and not swept and self.ablate is None:
            raise ValueError("rows: a suite needs at least one row, or a sweep")
        if swept and rows[-len(swept) :] != swept:  # else they are there, from a dump of this suite
            rows += swept
        rows = [self._compared(row, rows) for row in rows]
        if tuple(rows) != self.rows:
            object.__setattr__(self, "rows", tuple(rows))
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

    def _compared(self, row: Row, rows: Sequence[Row]) -> Row:
        """The row with what it is compared with, if it does not say so: what it extends, as this suite has it."""
        if "versus" in row.model_fields_set or row.extends is None or not (row.changes or row.at):
            return row
        suite, _, name = row.extends.rpartition("/")
        own = [each.name for each in rows if suite == self.suite and each.name == name]
        found = own or [each.name for each in rows if _is_unchanged(each, row.extends)]
        return row.model_copy(update={"versus": found[0]}) if found and found[0] != row.name else row

    def part(self, rows: Sequence[Row], asked: Sequence[str]) -> "Suite":
        """The suite as it was `asked` for: with these rows and those that they are compared with alone."""
        names = {row.name for row in rows} | {row.versus for row in rows}
        kept = [row for row in self.rows if row.name in names]
        there = {row.name for row in kept}
        left = [row if row.versus in there else row.model_copy(update={"versus": None}) for row in kept]
        sweeps = tuple(sweep for sweep in self.sweeps if {*sweep.row_names.values()} <= there)
        part = self.model_copy(update={"rows": tuple(left), "sweeps": sweeps})
        part._asked, part._of = tuple(asked), len(self.rows)
        return part

    @property
    def asked(self) -> tuple[str, ...]:
        """The names, and the `-m`, by which a part of the suite was asked for; nothing for the whole."""
        return self._asked

    @property
    def of(self) -> int:
        """How many rows the whole has."""
        return self._of or len(self.rows)

    def unchanged(self, extends: str) -> Row | None:
        """The row of this suite that extends that one and changes nothing, so that it is that row, over this base."""
        return next((row for row in self.rows if _is_unchanged(row, extends)), None)

    def uncompared(self, rows: Sequence[Row]) -> list[Row]:
        """Those that change a row of another suite, and are compared with nothing without having said so."""
        before = {row.versus for row in self.rows}
        changed = [row for row in rows if (row.changes or row.at) and row.versus is None and row.name not in before]
        silent = [row for row in changed if "versus" not in row.model_fields_set]
        return [row for row in silent if row.extends and row.extends.rpartition("/")[0] != self.suite]

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
