"""What a study searches: a space's parameters, objectives, constraints, sampler and pruner, read from YAML and checked.

A space starts from one row of a suite at one profile and varies config fields of it. Objectives are figures of
validation or of cost: the test split is looked at once, by the runs that a report makes after the search.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from experiments.spec import load_named
from experiments.suite import Name, SpecFile
from experiments.wording import did_you_mean

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None
VALIDATION = ("val/r1", "val/r5", "val/r10", "val/map", "val/stage1_r1")
COST = ("cost/seconds", "cost/pairs_per_s", "cost/peak_mib", "cost/parameters")
METRICS = (*VALIDATION, *COST)
TOLERANCE = 1e-9  # of a range that a step divides, relative to the step


def _metric(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("test"):
        better = value.replace("test", "val", 1) if value.replace("test", "val", 1) in VALIDATION else "val/r1"
        raise ValueError(f"{value} is of the test split, which no search may see; use {better}")
    if value not in METRICS:
        raise ValueError(f"no such metric{did_you_mean(str(value), METRICS)}")
    return value


Metric = Annotated[str, BeforeValidator(_metric)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parameter(_Section):
    """One config field that is searched."""

    type: Literal["float", "int", "categorical"] = Field("float", description="What its values are.")
    low: float | None = Field(None, description="Least value.")
    high: float | None = Field(None, description="Greatest value.")
    step: float | None = Field(None, gt=0, description="Distance of values; none: any (an int: 1).")
    log: bool = Field(False, description="Drawn evenly in the logarithm.")
    choices: tuple[Value, ...] | None = Field(None, description="Values of a categorical one.")

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """`[fixed, online, momentum]` is short for a categorical parameter with these choices."""
        values = {"type": "categorical", "choices": given} if isinstance(given, list) else given
        if isinstance(values, dict) and isinstance(values.get("choices"), list):
            # What a validator has touched is no JSON any more, of which alone a list is a tuple.
            return values | {"choices": tuple(values["choices"])}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Parameter":
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()
        return self

    def _check_choices(self) -> None:
        if not self.choices or len(self.choices) < 2:
            raise ValueError("a categorical parameter needs choices, two or more")
        if len({json.dumps(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(f"choices {json.dumps(self.choices)} names a value twice")
        if self.low is not None or self.high is not None or self.step is not None or self.log:
            raise ValueError("a categorical parameter has choices only; remove low, high, step and log")

    def _check_range(self) -> None:
        low, high, step = self.low, self.high, self.step
        if self.choices is not None:
            raise ValueError("choices belong to type: categorical")
        if low is None or high is None:
            raise ValueError(f"a parameter of type {self.type} needs low and high")
        if low >= high:
            raise ValueError(f"the range from low {low:g} to high {high:g} is empty; give low < high")
        if self.log and (low <= 0 or step is not None):
            raise ValueError("log needs low > 0 and no step")
        if self.type == "int" and any(value is not None and value != int(value) for value in (low, high, step)):
            raise ValueError(f"low {low:g}, high {high:g} and step of an int must be whole numbers")
        if step is not None and abs((high - low) / step - round((high - low) / step)) > TOLERANCE:
            raise ValueError(f"step {step:g} does not divide the range from {low:g} to {high:g}")

    def distribution(self) -> "BaseDistribution":
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None
        if self.type == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> tuple[Value, ...]:
        """The values at which a config that cannot be shows first: the ends of the range, or every choice."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        return (int(self.low), int(self.high)) if self.type == "int" else (self.low, self.high)

    def values(self) -> tuple[Value, ...]:
        """All of a parameter that has a number of them (`size`)."""
        if self.choices is not None:
            return self.choices
        size = self.size()
        assert size is not None and self.low is not None
        step = self.step or 1
        every = [number * step + self.low for number in range(size)]  # as Optuna's samplers round
        return tuple(int(value) for value in every) if self.type == "int" else tuple(every)

    def size(self) -> int | None:
        """How many values there are; None: any number."""
        if self.choices is not None:
            return len(self.choices)
        assert self.low is not None and self.high is not None
        step = self.step or (1 if self.type == "int" else None)
        return round((self.high - self.low) / step) + 1 if step else None


class Objective(_Section):
    """What is made as large or as small as can be."""

    metric: Metric = Field("val/r1", description="A figure of validation, or of cost.")
    direction: Literal["maximize", "minimize"] | None = Field(None, description="None: the metric's own.")

    @property
    def way(self) -> Literal["maximize", "minimize"]:
        """The direction, given or the metric's own."""
        costs = self.metric in COST and self.metric != "cost/pairs_per_s"
        return self.direction or ("minimize" if costs else "maximize")


class Constraint(_Section):
    """A bound on a weighted sum of parameters, checked before training, or on a figure of a trained run, after it."""

    name: Name = Field(description="As messages and records give it.")
    sum: dict[str, float] | None = Field(None, min_length=1, description="Factor of each parameter.")
    metric: Metric | None = Field(None, description="A figure of a trained run.")
    at_most: float = Field(description="The bound.")

    @model_validator(mode="after")
    def _one_of_two(self) -> "Constraint":
        if (self.sum is None) == (self.metric is None):
            raise ValueError("give sum (of parameters) or metric (of a trained run), one of the two")
        return self

    def excess(self, values: Mapping[str, Any]) -> float:
        """By how much parameters (or figures) exceed the bound; 0 or less is allowed."""
        if self.sum is not None:
            return sum(factor * values[name] for name, factor in self.sum.items()) - self.at_most
        return float(values[str(self.metric)]) - self.at_most


class Sampler(_Section):
    """Who proposes points."""

    name: Literal["tpe", "gp", "cmaes", "random"] = Field("tpe", description="Optuna's sampler.")
    seed: int = Field(0, ge=0, description="Of its draws; trial n draws from a stream of its own.")
    startup_trials: int = Field(10, ge=1, description="Points drawn at random before the sampler's model is used.")


class Pruner(_Section):
    """Who stops trials that will not be good."""

    name: Literal["none", "median", "hyperband", "wilcoxon"] = Field("none", description="Optuna's pruner.")
    startup_trials: int = Field(5, ge=0, description="Median: trials that are completed before any is stopped.")
    warmup_epochs: int = Field(1, ge=0, description="Median: epochs of a trial before it may be stopped.")
    reduction_factor: int = Field(3, ge=2, description="Hyperband: share of trials that goes on at each rung, as 1/n.")
    p_threshold: float = Field(0.1, gt=0, lt=1, description="Wilcoxon: stop once a trial is worse at this p.")


class Space(SpecFile):
    """One search."""

    study: Name = Field(description="Names the study in commands, storage and records.")
    title: str = Field("", description="One line that says what is searched.")
    row: str = Field(description="`suite/row` from which every trial starts.")
    profile: str = Field("smoke", description="Profile that is taken when none is asked for.")
    base: dict[str, Any] = Field({}, description="Config fields that all trials set.")
    parameters: dict[str, Parameter] = Field(description="What is searched, by dotted config key.")
    constraints: tuple[Constraint, ...] = Field((), description="Bounds that a point must keep.")
    objectives: tuple[Objective, ...] = Field((Objective(),), description="One, or up to three.")
    seeds: tuple[int, ...] = Field((0,), description="A trial trains once with each; the mean counts.")
    trials: int = Field(30, ge=1, description="Trials, when no number is asked for.")
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    start_at_row: bool = Field(True, description="The first trial is the row as it is, if it lies in the space.")
    start_at: tuple[dict[str, Value], ...] = Field((), description="Points that are tried next.")

    @property
    def size(self) -> int | None:
        """How many points there are; None: any number."""
        total = 1
        for parameter in self.parameters.values():
            if (size := parameter.size()) is None:
                return None
            total *= size
        return total

    @model_validator(mode="after")
    def _consistent(self) -> "Space":
        # As rules, since pydantic's own bounds on lengths also complain of items that were faulty.
        if not self.parameters or not self.seeds or not 1 <= len(self.objectives) <= 3:
            raise ValueError("parameters and seeds must name one at least, objectives one to three")
        for number, constraint in enumerate(self.constraints):
            for name in constraint.sum or ():
                if name not in self.parameters:
                    raise ValueError(f"constraints.{number}.sum: {name} is no parameter of this space")
                if self.parameters[name].type == "categorical":
                    raise ValueError(f"constraints.{number}.sum: {name} is categorical and has no size")
        for number, point in enumerate(self.start_at):
            if point.keys() != self.parameters.keys():
                raise ValueError(f"start_at.{number} must give every parameter: {', '.join(self.parameters)}")
        if len(self.objectives) > 1 and self.pruner.name != "none":
            raise ValueError(f"pruner {self.pruner.name} compares one objective; remove it or leave one objective")
        if len(self.objectives) > 1 and self.sampler.name == "cmaes":
            raise ValueError("sampler cmaes searches for one objective; take tpe, gp or random, or leave one objective")
        if self.pruner.name != "none" and self.objectives[0].metric not in VALIDATION:
            raise ValueError(f"pruner {self.pruner.name} needs a metric of validation, which each epoch has")
        check_wilcoxon(self.pruner, len(self.seeds))
        return self


def check_wilcoxon(pruner: Pruner, seeds: int) -> None:
    """Raises ValueError if the test could never stop a trial before its last seed."""
    if pruner.name != "wilcoxon":
        return
    if 0.5 ** (seeds - 1) >= pruner.p_threshold:
        needed = next(n for n in range(2, 60) if 0.5 ** (n - 1) < pruner.p_threshold)
        raise ValueError(
            f"pruner wilcoxon with {seeds} seed{'s' * (seeds != 1)}: over {seeds - 1} pairs p is never below "
            f"{0.5 ** (seeds - 1):g}, so at p_threshold {pruner.p_threshold:g} no trial would be stopped early; give "
            f"{needed} seeds or more"
        )


def space_names() -> list[str]:
    """Names of the built-in spaces."""
    folder = files("studies") / "spaces"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_space(name_or_path: str) -> Space:
    """A built-in space by name, or the user's own file. Raises SpecError."""
    folder = files("studies") / "spaces"
    return load_named(Space, "study", name_or_path, space_names(), lambda name: (folder / name, name), noun="space")
