"""A folder of a few images and an index of it, with a small model of random weights and a real vocabulary."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import uvicorn

from rasa.config.run import Config
from rasa.data.tokenizer import train_tokenizer
from rasa.model.rasa import build_model
from rasa.search.encoder import Encoder
from rasa.search.engine import Engine
from rasa.search.index import update_index
from reports.serve import create_app
from tests.helpers.people import tiny_config, write_people

HOSTILE_NAME = "<img src=x onerror=alert(1)> & 'b\".png"
HOSTILE = '<script>alert(1)</script> a red "coat" & <b>bag</b>'
WORDS = (
    "a an the man woman person in with and wearing red green blue white black yellow purple grey shirt coat jeans "
    "trousers bag backpack hat shoes carrying free hands walking script alert"
)


def write_gallery(folder: Path) -> Path:
    """Six images in two folders, one with HTML as its name, and what is no image."""
    people = write_people(folder / "people", train=1, val=1, test=1, images=2)
    root = folder / "gallery"
    for number, file in enumerate(sorted((people / "imgs").rglob("*.*g"))):
        place = root / f"day {number % 2}" / f"{number}{file.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        file.rename(place)
    (root / "day 0" / "0.png").rename(root / HOSTILE_NAME)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"no image")
    return root


def encoder(root: Path, seed: int = 0, reranks: bool = True, losses=None, **evaluation) -> Encoder:
    """A model of tiny sizes whose weights the seed decides; the digest is the seed's. `losses`: more heads."""
    losses = ({"cl": 1.0, "itm": 1.0} if reranks else {"cl": 1.0}) | (losses or {})
    values = tiny_config(root, losses, seed=seed, evaluation={"topk": 4, **evaluation})
    if "rtd" in losses:
        values["objectives"]["generator"] = "momentum" if "mlm" in losses else "fixed"
    config = Config.model_validate(values)
    tokenizer = train_tokenizer([WORDS], 200)
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id).eval()
    return Encoder(model, tokenizer, config, torch.device("cpu"), f"weights of seed {seed}")


def engine(root: Path, **options) -> Engine:
    """The folder, indexed."""
    own = encoder(root, **options)
    return Engine(root, update_index(root, own)[0], own)


@contextmanager
def served(searching: Engine, **options) -> Iterator[str]:
    """The search page on a free port of this machine: its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(searching, **options), log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def get(address: str, path: str, **headers) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request whose path is sent as it is: status, headers in lower case, body."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.putrequest(headers.pop("method", "GET"), path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
