"""`rasa bench train | retrieval`: the plain path of the released structure against the fast one, side by side.

What is measured lies in `benchmarks/`, which belongs to the source checkout and is not installed. Only click and the
standard library up here.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import click

from experiments.options import json_option, override_option, tracking_option, workspace_option

SIZES = ("tiny", "synth", "paper")

size_option = click.option(
    "--size",
    type=click.Choice(SIZES),
    default="synth",
    show_default=True,
    help="Of the model: smoke's, synth's, ALBEF's.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
precision_option = click.option(
    "--precision",
    type=click.Choice(("float32", "tf32", "bf16")),
    help="Of the fast side; default: float32 on a CPU, on a GPU a table of all.",
)
threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: torch's choice.")
track_option = click.option("--track/--no-track", default=True, show_default=True, help="Log to MLflow too.")


@click.group(short_help="Time a step and re-ranking against the released structure.")
def bench() -> None:
    """Time the plain path of the released structure against the fast one, in one process."""


@bench.command()
@size_option
@click.option("--row", default="table4/m-rtd", show_default=True, help="Which losses.")
@click.option("--batch", type=click.IntRange(min=2), help="Pairs; default: the size's own, 16, 64 or 52.")
@click.option("--steps", type=click.IntRange(min=1), default=7, show_default=True, help="Timed steps of each side.")
@device_option
@precision_option
@threads_option
@override_option
@track_option
@tracking_option
@workspace_option
@json_option
def train(
    size: str,
    row: str,
    batch: int | None,
    steps: int,
    device: str,
    precision: str | None,
    threads: int | None,
    overrides: tuple[str, ...],
    track: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """A training step: pairs/s, time by part, memory, FLOPs, utilisation, and how far losses and gradients agree."""
    chosen = _prepare(device, threads)
    from benchmarks.train import compare

    found = compare(size, row, chosen, precision, batch, steps, list(overrides))
    _show(found, _train_tables(found), track, tracking_uri, workspace, as_json)


@bench.command()
@size_option
@click.option("--queries", type=click.IntRange(min=1), default=32, show_default=True, help="Texts.")
@click.option(
    "--plain-queries", type=click.IntRange(min=1), default=2, show_default=True, help="Of them on the plain side."
)
@click.option("--candidates", type=click.IntRange(min=1), default=128, show_default=True, help="Images for each text.")
@click.option("--tokens-per-call", type=click.IntRange(min=1), default=8192, show_default=True)
@device_option
@precision_option
@threads_option
@override_option
@track_option
@tracking_option
@workspace_option
@json_option
def retrieval(
    size: str,
    queries: int,
    plain_queries: int,
    candidates: int,
    tokens_per_call: int,
    device: str,
    precision: str | None,
    threads: int | None,
    overrides: tuple[str, ...],
    track: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Re-ranking: seconds per query, FLOPs, memory, and how far scores and orders agree."""
    chosen = _prepare(device, threads)
    from benchmarks.retrieval import compare

    plain_queries = min(plain_queries, queries)
    found = compare(size, chosen, precision, queries, plain_queries, candidates, tokens_per_call, list(overrides))
    _show(found, _retrieval_tables(found), track, tracking_uri, workspace, as_json)


def _prepare(device: str, threads: int | None) -> Any:
    """The device; `benchmarks` is made importable. Raises ResourceError if this is not a checkout."""
    import rasa
    from rasa.errors import ResourceError

    checkout = Path(rasa.__file__).parents[1]
    if not (checkout / "benchmarks" / "plain.py").is_file():
        raise ResourceError(
            f"{checkout}: rasa bench needs the source checkout, whose benchmarks/ is not installed; "
            "clone the repository and install it with pip install -e ."
        )
    if importlib.util.find_spec("benchmarks") is None:
        sys.path.append(str(checkout))
    import torch

    from rasa.numerics import pick_device

    if threads:
        torch.set_num_threads(threads)
    return pick_device(device)


def _show(
    found: dict[str, Any], tables: list[Any], track: bool, tracking_uri: str | None, workspace: Path, as_json: bool
) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        from rich.console import Console

        for table in tables:
            Console().print(table)
    if track:
        from experiments.databases import shown
        from experiments.store import tracking_uri as chosen_uri
        from experiments.tracking import log_benchmark

        uri = chosen_uri(workspace, tracking_uri)
        click.echo(f"logged to {shown(uri)}: {log_benchmark(found, uri, workspace)}", err=True)


def _train_tables(found: dict[str, Any]) -> list[Any]:
    from rich.table import Table

    threads = f" with {found['threads']} threads" if found["device"] == "cpu" else ""
    title = (
        f"{found['row']} at size {found['size']}, batch {found['batch']}, {found['device']}{threads}, captions of "
        f"{found['tokens_mean']:.1f} tokens (padded {found['tokens_padded']}), {found['fidelity']} fidelity, "
        f"{found['ranks']} rank(s)"
    )
    table = Table("", *(v["variant"] for v in found["variants"]), title=title)
    rows = {
        "pairs/s": ("pairs_per_s", "{:.2f}"),
        "ms a step": ("ms_per_step", "{:.1f}"),
        "peak MiB": ("peak_mib", "{:.0f}"),
        "GFLOP a pair, counted": ("gflop_per_pair", "{:.4g}"),
        "GFLOP/s of the device": ("peak_matrix_gflops", "{:.0f}"),
        "utilisation": ("utilisation", "{:.1%}"),
        "on the plain path's FLOPs": ("utilisation_on_plain_flops", "{:.1%}"),
    }
    if found["size"] == "paper":
        rows["hours a row of the paper"] = ("hours_a_row", "{:.2f}")
    for label, (key, form) in rows.items():
        table.add_row(label, *(form.format(v[key]) for v in found["variants"]))
    for part in found["variants"][0]["parts_ms"]:
        table.add_row(f"  ms {part}", *(f"{v['parts_ms'][part]:.1f}" for v in found["variants"]))
    model = found["model_gflop_per_pair"]
    agree = f"losses agree to {found['max_abs_difference']:.1e}, gradients to {found['max_gradient_difference']:.1e}"
    notes = [
        f"ratio {found['ratio']:.2f}, of the fusion passes {found['fusion_ratio']:.2f}",
        f"{agree} of a tensor's largest (float32, no dropout)",
    ]
    if model:
        notes.append(f"the model says {model['plain']:.4g} GFLOP a pair for plain, {model['fast']:.4g} for fast")
    table.caption = "; ".join(notes)
    return [table]


def _retrieval_tables(found: dict[str, Any]) -> list[Any]:
    from rich.table import Table

    title = (
        f"re-ranking at size {found['size']}, {found['queries']} queries x {found['candidates']} candidates, "
        f"{found['device']}, captions of {found['tokens_mean']:.1f} tokens (padded {found['tokens_padded']})"
    )
    table = Table("", "plain", f"fast {found['precision']}", title=title)
    for label, name, form in (
        ("seconds a query", "seconds_per_query", "{:.4g}"),
        ("pairs/s", "pairs_per_s", "{:.1f}"),
        ("GFLOP a pair, counted", "gflop_per_pair", "{:.4g}"),
        ("peak MiB", "peak_mib", "{:.0f}"),
    ):
        table.add_row(label, *(form.format(found[f"{side}_{name}"]) for side in ("plain", "fast")))
    order = "the same order" if found["same_order"] else "another order"
    agree = f"float32 scores agree to {found['max_abs_difference']:.1e} at a spread of {found['score_spread']:.2g}"
    notes = [
        f"ratio {found['ratio']:.2f}; {agree}, {order}",
        f"re-ranking a test of CUHK-PEDES size at this speed: {found['cuhk_pedes_rerank_seconds']:.0f} s",
    ]
    if found["precision"] != "float32":
        notes.append(f"{found['precision']} moves scores by up to {found['precision_moves_scores_by']:.2g}")
    table.caption = "; ".join(notes)
    return [table]
