"""`rasa index | search | serve`. Only click is imported, here and by what is imported here, until it runs."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.completers import weights as completed_weights
from experiments.options import json_option, override_option, workspace_option

if TYPE_CHECKING:
    from rasa.search.encoder import Encoder
    from rasa.search.engine import Engine
    from rasa.search.index import Index

LOOPBACK = ("127.0.0.1", "localhost", "::1")

folder_type = click.Path(path_type=Path)
weights_option = click.option(
    "--with",
    "weights",
    metavar="RUN|start|CHECKPOINT",
    type=click.Path(path_type=Path),
    shell_complete=completed_weights,
    help="Weights: a run's directory, id, name or row, or a checkpoint; default: those that the index was made with, "
    "where they lay then.",
)


@click.command(short_help="Encode a folder of images, to be searched.")
@click.argument("folder", metavar="DIR", type=folder_type)
@weights_option
@override_option
@click.option("--anew", is_flag=True, help="Encode every image, also with other weights than before.")
@workspace_option
def index(folder: Path, weights: Path | None, overrides: tuple[str, ...], anew: bool, workspace: Path) -> None:
    """Encode the images below DIR once, with a run's selected weights or a checkpoint; the index lies in DIR/.rasa.

    The same command brings it up to date: an image is known by its content, so only new and changed ones are encoded.
    """
    from rasa.commands.data import Progress
    from rasa.search.index import read_index, update_index

    known = None if weights is not None else read_index(folder)
    if known is None and weights is None:
        raise click.UsageError(f"{folder} has no index yet; say --with which weights, e.g. --with table4/m-rtd's run")
    encoder = _encoder(known, weights, overrides, workspace)
    with Progress("images") as progress:
        made, changes = update_index(folder, encoder, anew, _say, progress.update)
    click.echo(
        f"{folder}: {len(made.files)} images; {changes.encoded} encoded, {changes.kept} as before, {changes.removed} "
        f"gone, {len(made.skipped)} left out"
    )


@click.command(short_help="Find images by a sentence.")
@click.argument("query")
@click.option("--in", "folder", metavar="DIR", type=folder_type, required=True, help="A folder with an index.")
@click.option("--number", type=click.IntRange(1, 200), default=10, show_default=True, help="Images shown.")
@click.option("--page", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Also an HTML page.")
@weights_option
@override_option
@workspace_option
@json_option
def search(
    query: str,
    folder: Path,
    number: int,
    page: Path | None,
    weights: Path | None,
    overrides: tuple[str, ...],
    workspace: Path,
    as_json: bool,
) -> None:
    """Find the images of DIR that fit a sentence, e.g. "a woman in a red coat with a white bag".

    Stage 1 ranks all images by similarity, stage 2 looks at the best of them again. Words that no image shown supports
    are told.
    """
    from rasa.search.words import LONGEST_QUERY
    from reports import search as shown

    if not any(letter.isalnum() for letter in query):
        raise click.UsageError(f"there is no word in the query; write what can be seen: rasa search '{shown.EXAMPLE}'")
    if len(query) > LONGEST_QUERY:
        raise click.UsageError(f"the query has {len(query)} characters; at most {LONGEST_QUERY} are taken")
    engine, notes = _engine(folder, weights, overrides, workspace)
    for note in notes:
        _say(note)
    found = engine.search(query, number)
    if as_json:
        click.echo(shown.as_json(found))
    else:
        from rich.console import Console

        Console().print(shown.table(found))
        for remark in shown.remarks(found):
            click.echo(remark)
    if page is not None:
        shown.write_page(page, query, engine, found)
        _say(f"page: {page}")


@click.command(short_help="A search page for a folder, on this machine.")
@click.argument("folder", metavar="DIR", type=folder_type)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; others than this machine's open the images to the network.",
)
@click.option("--name", "names", multiple=True, metavar="HOST", help="A further host name under which it answers.")
@weights_option
@override_option
@workspace_option
def serve(
    folder: Path,
    port: int,
    host: str,
    names: tuple[str, ...],
    weights: Path | None,
    overrides: tuple[str, ...],
    workspace: Path,
) -> None:
    """Serve a page that searches the images of DIR, until Ctrl-C. It prints its address.

    It answers on this machine alone, under its own name alone, and reads nothing but the images of the index.
    """
    import uvicorn

    from rasa.errors import ResourceError
    from reports.serve import HERE, create_app

    engine, notes = _engine(folder, weights, overrides, workspace)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ResourceError(f"{host}:{port}: {error.strerror}; give another --port (0: any) or --host") from None
    if host not in LOOPBACK:
        _say(f"whoever can reach {host} can see the images and their names; there is no password")
    app = create_app(engine, (*HERE, *({f"[{host}]", host} if ":" in host else {host}), *names), notes)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"http://{shown}:{listening.getsockname()[1]}/")
    settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False)
    uvicorn.Server(settings).run(sockets=[listening])


def _engine(
    folder: Path, weights: Path | None, overrides: tuple[str, ...], workspace: Path
) -> "tuple[Engine, list[str]]":
    """The folder's index with its weights, and what is to be said of it. Raises ResourceError."""
    from rasa.errors import ResourceError
    from rasa.search.engine import Engine
    from rasa.search.folder import list_images
    from rasa.search.index import read_index

    known = read_index(folder)
    if known is None:
        state = "has no index" if folder.is_dir() else "is no folder"
        raise ResourceError(f"{folder}: {state}; make one: rasa index {folder} --with RUN")
    paths, notes = list_images(folder)
    told = []
    if not known.complete:
        told.append("The index is not complete; `rasa index` goes on with it.")
    gone = len(set(known.files) - set(paths))
    new = len(set(paths) - set(known.files)) - max(0, len(known.skipped) - len(notes))
    if gone or new > 0:
        told.append(
            f"Since it was indexed, {max(new, 0)} images are new in the folder and {gone} gone; `rasa index` again."
        )
    return Engine(folder, known, _encoder(known, weights, overrides, workspace)), told


def _encoder(known: "Index | None", weights: Path | None, overrides: tuple[str, ...], workspace: Path) -> "Encoder":
    """The weights that are named, or else the index's own. Raises ResourceError, SpecError."""
    from experiments.evaluate import config_of_weights
    from experiments.layers import Layer, build, parse_override
    from rasa.errors import ResourceError
    from rasa.search.encoder import load_encoder

    if weights is not None or known is None:
        assert weights is not None
        return load_encoder(config_of_weights(weights, overrides, workspace))
    values = known.config.model_dump(mode="json", exclude={"seed"})
    config = build([Layer("index", values)], [parse_override(text) for text in overrides], known.config.seed)
    try:
        return load_encoder(config)
    except ResourceError as fault:
        raise ResourceError(f"{fault}; if its weights have moved, say where to: --with RUN|CHECKPOINT") from None


def _say(line: str) -> None:
    click.echo(line, err=True)
