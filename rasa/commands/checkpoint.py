"""The commands `rasa checkpoint ...`. Nothing but click is imported until one of them runs."""

import json
from pathlib import Path

import click

from rasa.commands.data import PROBLEMS_FOUND, json_option


@click.group(short_help="Inspect and convert weights from outside.")
def checkpoint() -> None:
    """Look into weights: ALBEF, TCL and RaSa files, or a run's selected/ folder."""


@checkpoint.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def inspect(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Say what FILE is, the model's sizes, and whether it fills a model of those sizes. Exits 5 for another layout."""
    from dataclasses import asdict

    from rasa.errors import ResourceError
    from rasa.weights.files import read_tensors
    from rasa.weights.inspect import inspect as look_into
    from rasa.weights.layouts import recognise

    reading = recognise(read_tensors(file), str(file))
    try:
        found = look_into(reading.state)
    except ResourceError as fault:
        raise ResourceError(f"{file}: {fault}") from None
    if as_json:
        extra = {"complete": found.complete, "notes": list(reading.notes)}
        click.echo(json.dumps(asdict(found) | extra, indent=1))
    else:
        click.echo(f"{file}: {found.layout}")
        click.echo(f"keys         {found.keys}")
        click.echo(
            f"trainable    {found.trainable:,} values in a model of these sizes ({found.parameters:,} with momentum)"
        )
        for name, size in found.sizes.items():
            click.echo(f"{name:<12} {size}")
        for what in ("missing", "unexpected", "other_shape"):
            keys = getattr(found, what)
            shown = ", ".join(keys[:10]) + (", ..." if len(keys) > 10 else "")
            click.echo(f"{what:<12} {len(keys)}" + (f": {shown}" if keys else ""))
        if found.complete:
            click.echo("every key has its place: nothing left over, nothing missing, all shapes equal")
        for note in reading.notes:
            click.echo(f"note: {note}")
    if not found.known or found.unexpected or found.other_shape:
        ctx.exit(PROBLEMS_FOUND)


@checkpoint.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@json_option
def convert(file: Path, out: Path, as_json: bool) -> None:
    """Write the weights of FILE into the new folder OUT: safetensors, with hashes and a record of the source.

    FILE is an ALBEF, TCL or RaSa file, pre-trained or fine-tuned, alone or wrapped. Nothing in it is run, and a tensor
    that has no place in such a model is refused. OUT serves as model.weights and in `rasa evaluate`.
    """
    from rasa.weights.convert import convert as write

    record = write(file, out)
    if as_json:
        click.echo(json.dumps(record, indent=1))
        return
    click.echo(f"{out}: {record['layout']}, from {record['source']['name']} (sha256 {record['source']['sha256'][:16]})")
    for note in record["notes"]:
        click.echo(f"note: {note}")
