"""The options that commands have in common. Only click and the standard library up here."""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from experiments.completers import overrides, profiles, targets

AUTO = "auto"  # of --jobs
SEEDS = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?")
MOST_SEEDS = 1000

workspace_option = click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=".",
    help="Folder that holds runs/, data/ and mlflow.db.",
)
profile_option = click.option(
    "--profile", shell_complete=profiles, help="smoke, synth, paper or a file; default: the suite's own."
)
override_option = click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=overrides,
    help="Set one config field, e.g. optimisation.epochs=3.",
)
multirun_option = click.option(
    "-m",
    "--multirun",
    "several",
    multiple=True,
    metavar="KEY=A,B",
    shell_complete=overrides,
    help="Each row at every value, as rows of their own, e.g. objectives.p_weak=0.1,0.3.",
)
targets_argument = click.argument("names", metavar="TARGET...", nargs=-1, required=True, shell_complete=targets)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
tracking_option = click.option(
    "--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or mlflow.db in the workspace."
)
keep_option = click.option(
    "--keep-checkpoints", is_flag=True, help="Keep finished runs' optimizer state; else their selected weights alone."
)


class Where(NamedTuple):
    """Where runs execute, as the options say."""

    jobs: int | None = 1  # at a time; None: as many as there is room for
    per_device: int | None = None  # that share a GPU
    devices: int | None = None  # that train one run together
    executor: str = "local"
    ray_address: str | None = None
    slurm: tuple[str, ...] = ()  # KEY=VALUE


HERE = Where()  # in this process, one after another


class Jobs(click.ParamType):
    """A number of runs at a time, or `auto`, which is None in `Where`."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or `auto`."""
        if value == AUTO:
            return AUTO
        if str(value).isdecimal() and int(value) > 0:
            return int(value)
        self.fail(f"{value!r}: give a whole number of 1 or more, or {AUTO}", param, ctx)


jobs_option = click.option(
    "--jobs",
    type=Jobs(),
    callback=lambda context, option, value: None if value == AUTO else value,
    default=1,
    show_default=True,
    help="Runs at a time; auto: one on each GPU, or on a CPU as many as its cores and memory have room for.",
)
per_device_option = click.option(
    "--per-device", type=click.IntRange(min=1), help="Runs that share a GPU; default: as few as --jobs allows."
)
executor_options = (
    click.option(
        "--executor",
        type=click.Choice(["local", "ray", "slurm"]),
        default="local",
        show_default=True,
        help="Where runs execute; with ray and slurm --jobs is auto by default.",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT|auto|local",
        help="Of --executor ray: the cluster; default: RAY_ADDRESS, or one that is started here.",
    ),
    click.option(
        "--slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="Of --executor slurm: an option of sbatch, e.g. partition=gpu, time=8:00:00.",
    ),
)
devices_option = click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Processes that train a run together, one per GPU; the number of fidelity.ranks or a divisor of it.",
)


def where_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where runs execute; the command is given `where`."""
    return _told_where(command, (jobs_option, per_device_option, devices_option, *executor_options))


def where_of_workers_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a study, whose runs are trained by one process each."""
    return _told_where(command, (jobs_option, per_device_option, *executor_options))


def _told_where(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    @wraps(command)
    def told(
        *arguments: Any,
        jobs: int | None,
        per_device: int | None,
        executor: str,
        ray_address: str | None,
        slurm: tuple[str, ...],
        devices: int | None = None,
        **rest: Any,
    ) -> Any:
        if ray_address is not None and executor != "ray":
            raise click.UsageError(f"--ray-address {ray_address} needs --executor ray")
        if slurm and executor != "slurm":
            raise click.UsageError(f"--slurm {slurm[0]} needs --executor slurm")
        if executor == "slurm" and per_device is not None:
            raise click.UsageError(f"--per-device {per_device}: a job of Slurm has its GPUs for itself; leave it out")
        given = click.get_current_context().get_parameter_source("jobs") == click.core.ParameterSource.COMMANDLINE
        if executor != "local" and not given:
            jobs = None
        return command(*arguments, where=Where(jobs, per_device, devices, executor, ray_address, slurm), **rest)

    for option in reversed(options):
        told = option(told)
    return told


PLAIN = "rasa.plain"  # in click's context: whether --plain was given


def plain_asked() -> bool:
    """Whether the command that goes on was given --plain."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(PLAIN))


plain_option = click.option(
    "--plain",
    is_flag=True,
    expose_value=False,
    callback=lambda context, option, value: context.meta.__setitem__(PLAIN, value),
    help="Progress in lines on a terminal, too; NO_COLOR=1 asks for it everywhere.",
)


def on_fault_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a failed run means; the command is given `on_fault`."""

    @wraps(command)
    def told(*arguments: Any, retries: int, fail_fast: bool, **rest: Any) -> Any:
        from experiments.outcome import OnFault

        return command(*arguments, on_fault=OnFault(retries, fail_fast), **rest)

    for option in (
        click.option("--fail-fast", is_flag=True, help="Stop the other runs, with a checkpoint, once one has failed."),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Attempts more for a run whose process was killed or had no memory, each from its last checkpoint.",
        ),
    ):
        told = option(told)
    return told


def seeds_given(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """Seeds of `0,1,2`, `0-4` or `0-2,7`, each once, in the order that is given."""
    seeds: dict[int, None] = {}
    for part in value.split(","):
        matched = SEEDS.fullmatch(part.strip())
        if matched is None:
            raise click.BadParameter(f"{value!r}: give whole numbers from 0 on, or ranges, e.g. 0,1,2 or 0-4")
        first, last = int(matched["first"]), int(matched["last"] or matched["first"])
        if last < first:
            raise click.BadParameter(f"{value!r}: the range {part.strip()} is empty; write {last}-{first}")
        if len(seeds) + last - first >= MOST_SEEDS:
            raise click.BadParameter(f"{value!r}: more than {MOST_SEEDS} seeds")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


seeds_option = click.option("--seeds", default="0", show_default=True, callback=seeds_given, help="e.g. 0-4 or 0,1,7.")


def duration_given(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds of `8h`, `90m`, `1h30m` or `45s`."""
    if value is None:
        return None
    matched = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", value.strip())
    if not value.strip() or matched is None:
        raise click.BadParameter(f"{value!r}: give hours, minutes or seconds, e.g. 8h, 90m, 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(matched.groups(), (3600, 60, 1), strict=True))


until_option = click.option(
    "--until",
    type=click.Choice(["decided"]),
    help="Add seeds, after looks at 3, 5, 8 and 12, to the rows of steps that are not decided.",
)
margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    help="Points of R@1 within which two rows are called equivalent; default 1.",
)
most_option = click.option("--max-seeds", "most", type=click.IntRange(min=3), help="The last look; default 12.")
