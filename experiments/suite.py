"""What a suite's file and a profile's hold: rows, grids and sweeps, and the rows that these stand for."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, model_validator

from experiments.layers import merge
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
AT = "Config fields that are set at one profile only, by the profile's name."


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
