"""What commands print of runs and steps: lines, or JSON. Everything heavy is imported by the function that needs it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from experiments.decisions import Decision
    from experiments.forecast import Forecast
    from experiments.outcome import Outcome
    from experiments.plan import PlannedRun
    from experiments.until import Look


def print_look(now: "Look", jobs: int, as_json: bool) -> None:
    from experiments.until import duration, standing

    if as_json:
        print_json(
            {
                "steps": [step_row(each) for each in now.decisions.values()],
                "next_look": now.seeds if now.runs else None,
                "runs": [planned_row(run) for run in now.runs],
            }
        )
        return
    print_steps(now)
    for run in now.runs:
        print_state(run.about.name, run.state, run.reason, how_long(run.seconds))
    known = all(run.seconds is not None for run in now.runs)
    total = f"about {how_long(duration(now.runs, jobs))}" if known else "for an unknown time"
    click.echo(standing(now) + (f", {total}" if now.runs else ""))


def print_forecast(found: "Forecast", price: float | None, data: str, as_json: bool) -> None:
    from experiments import forecast_text

    if as_json:
        print_json(forecast_text.as_json(found, price, data))
        return
    for line in forecast_text.lines(found, price, data):
        click.echo(line)


def print_steps(now: "Look") -> None:
    from experiments.until import words

    for decision in now.decisions.values():
        click.echo(words(decision))


def step_row(decision: "Decision") -> dict[str, Any]:
    from dataclasses import asdict

    return {"decided": decision.decided, **asdict(decision)}


def warn_of_headroom(starts: "Sequence[PlannedRun]", runs: "Sequence[PlannedRun]") -> None:
    from experiments.start import without_headroom

    for sentence in without_headroom(starts, runs):
        click.echo(f"warning: {sentence}", err=True)


def print_outcomes(outcomes: "Sequence[Outcome]", as_json: bool) -> None:
    from experiments.progress import ending

    if as_json:
        rows = [row_of(o.about, o.state, o.message, o.directory) | {"r1": o.r1, "seconds": o.seconds} for o in outcomes]
        print_json(rows)
        return
    for outcome in outcomes:
        # Why a run failed stands on stderr already.
        shown = outcome._replace(message="") if outcome.state == "failed" else outcome
        click.echo(f"{outcome.about.name:28} {ending(shown)}  {outcome.directory}")


def print_state(name: str, state: str, reason: str, estimate: str = "") -> None:
    text = f"{state}: {reason}" if reason else state
    click.echo(f"{name:28} {text}" + (f" (about {estimate})" if estimate else ""))


def planned_row(run: "PlannedRun") -> dict[str, Any]:
    return row_of(run.about, run.state, run.reason, run.directory) | {"seconds": run.seconds}


def row_of(about: Any, state: str, reason: str, directory: Path | None) -> dict[str, Any]:
    keys = ("suite", "row", "profile", "seed", "run_id", "row_digest", "data_digest", "variant")
    who = {key: getattr(about, key) for key in keys}
    return who | {"state": state, "reason": reason, "directory": str(directory) if directory else None}


def settled(run: "PlannedRun") -> bool:
    return run.state in ("finished", "stale", "running")


def how_long(seconds: float | None) -> str:
    from experiments.progress import duration

    return duration(seconds)


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    click.echo()
