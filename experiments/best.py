"""`rasa best`: finished rows by validation R@1, never by test, and where the weights of their best run lie."""

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from experiments.plan import Recorded
from experiments.reached import Reached, choice, reached

CHOSEN_BY = "validation R@1 of each run's selected epoch; the mean of the recalls breaks ties"


class Found(NamedTuple):
    """A finished run and what it has reached."""

    run: Recorded
    reached: Reached


class BestRow(NamedTuple):
    """The finished runs of a row with one config, the best first."""

    runs: tuple[Found, ...]

    @property
    def best(self) -> Found:
        """By validation; of equals that of the lowest seed."""
        return self.runs[0]

    @property
    def key(self) -> tuple[float, float]:
        """The means over seeds of what validation chooses by."""
        keys = [choice(found.reached.val) for found in self.runs]
        return fmean(first for first, _ in keys), fmean(second for _, second in keys)

    def mean(self, figure: str) -> float | None:
        """Of `val_r1` or `test_r1` over the seeds that have it."""
        values = [value for found in self.runs if (value := getattr(found.reached, figure)) is not None]
        return fmean(values) if values else None


class Contest(NamedTuple):
    """Rows that can be compared: of one suite at one profile, on the same data. The best comes first."""

    suite: str
    profile: str
    data: str
    data_digest: str
    rows: tuple[BestRow, ...]


def contests(recorded: Iterable[Recorded]) -> list[Contest]:
    """The finished runs (those that the code has changed since, too) in groups that can be compared."""
    groups: dict[tuple[str, str, str, str], dict[str, list[Found]]] = {}
    for run in recorded:
        about = run.about
        if run.state not in ("finished", "stale") or about.untrained:
            continue
        found = Found(run, reached(run.directory, about))
        if found.reached.val_r1 is None:  # nothing was chosen, e.g. of a record that was damaged
            continue
        group = groups.setdefault((about.suite, about.profile, about.data_name, about.data_digest), {})
        group.setdefault(f"{about.row} {about.row_digest} {about.weights_digest}", []).append(found)
    return [
        Contest(*names, tuple(sorted(map(_row, rows.values()), key=lambda row: row.key, reverse=True)))
        for names, rows in groups.items()
    ]


def document(contest: Contest, number: int) -> dict[str, Any]:
    """What --json prints of one."""
    rows = [
        {
            "rank": rank,
            "row": row.best.run.about.row,
            "variant": row.best.run.about.variant,
            "seeds": sorted(found.run.about.seed for found in row.runs),
            "val_r1": row.mean("val_r1"),
            "test_r1": row.mean("test_r1"),
            "best": {
                "run_id": row.best.run.about.run_id,
                "seed": row.best.run.about.seed,
                "state": row.best.run.state,
                "epoch": row.best.reached.selected,
                "val_r1": row.best.reached.val_r1,
                "test_r1": row.best.reached.test_r1,
                "directory": str(row.best.run.directory),
                "weights": str(row.best.reached.weights) if row.best.reached.weights else None,
            },
        }
        for rank, row in enumerate(contest.rows[:number], start=1)
    ]
    who = {key: getattr(contest, key) for key in ("suite", "profile", "data", "data_digest")}
    return {**who, "chosen_by": CHOSEN_BY, "rows": rows}


def lines(contest: Contest, number: int, workspace: Path) -> list[str]:
    """The same for people: a line for each row, and under it its best run's weights."""
    told = [f"{contest.suite} at {contest.profile} on {contest.data}"]
    for rank, row in enumerate(contest.rows[:number], start=1):
        about, got, seeds = row.best.run.about, row.best.reached, len(row.runs)
        name = about.row + (f" ({about.variant})" if about.variant else "")
        of_seeds = f"val R@1 {_figure(row.mean('val_r1'))}, test {_figure(row.mean('test_r1'))}"
        told.append(f"{rank:3}. {name:24} {of_seeds}, mean of {seeds} seed{'s' if seeds > 1 else ''}")
        stale = " (stale: the code has changed since)" if row.best.run.state == "stale" else ""
        epoch = f"epoch {got.selected}" if got.selected else "its selected epoch"
        figures = f"val {_figure(got.val_r1)}, test {_figure(got.test_r1)}"
        told.append(f"     seed {about.seed}, {epoch}: {figures}, {about.run_id}{stale}")
        told.append(f"     {_shown(got.weights, workspace) if got.weights else 'its weights are not here'}")
    if len(contest.rows) > number:
        told.append(f"     and {len(contest.rows) - number} more rows (--number)")
    return told


def _row(found: list[Found]) -> BestRow:
    def key(each: Found) -> tuple[float, float, int]:
        first, second = choice(each.reached.val)
        return -first, -second, each.run.about.seed

    return BestRow(tuple(sorted(found, key=key)))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _shown(path: Path, workspace: Path) -> Path:
    """From the workspace if it is the working folder, so that it can be typed as it stands."""
    here = workspace.absolute()
    return path.absolute().relative_to(here) if here == Path.cwd() and path.absolute().is_relative_to(here) else path
