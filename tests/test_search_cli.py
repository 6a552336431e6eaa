"""`rasa index | search | serve` with the weights of a real run, and what is refused."""

import json
import shutil
import socket

import pytest

from rasa.commands.cli import main
from tests.helpers.galleries import HOSTILE_NAME, get, write_gallery
from tests.helpers.one_row import EVERYTHING, run_directory, write_suite
from tests.helpers.people import write_people


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one row on a few people."""
    folder = tmp_path_factory.mktemp("trained")
    people = write_people(folder / "people", train=6, val=2, test=2)
    suite = write_suite(folder, people, EVERYTHING, "momentum", epochs=1)
    assert run("run", suite, "-o", f"data.root={people}", "--workspace", folder) == 0
    return run_directory(folder)


@pytest.fixture
def root(tmp_path):
    return write_gallery(tmp_path)


def test_index_and_search(trained, root, tmp_path, capsys):
    assert run("index", root, "--with", trained) == 0
    assert capsys.readouterr().out == f"{root}: 6 images; 6 encoded, 0 as before, 0 gone, 0 left out\n"
    assert run("index", root) == 0
    assert capsys.readouterr().out == f"{root}: 6 images; 0 encoded, 6 as before, 0 gone, 0 left out\n"
    assert run("search", "A person in a red shirt", "--in", root, "--number", 3, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["read"] == "a person in a red shirt" and len(found["matches"]) == 3
    assert [match["match"] for match in found["matches"]] == sorted(
        (match["match"] for match in found["matches"]), reverse=True
    )
    page = tmp_path / "page.html"
    assert run("search", "A person in a red shirt", "--in", root, "--page", page) == 0
    captured = capsys.readouterr()
    assert HOSTILE_NAME[:20] in captured.out and "rank by it" in captured.out and "match" in captured.out
    assert page.read_text().count("data:image/jpeg") == 6 and f"page: {page}" in captured.err


def test_what_has_changed_since_is_told(trained, root, capsys):
    assert run("index", root, "--with", trained) == 0
    shutil.copy(root / "day 0" / "2.png", root / "copy.png")
    (root / "day 1" / "1.png").unlink()
    capsys.readouterr()
    assert run("search", "red", "--in", root, "--json") == 0
    assert "1 images are new in the folder and 1 gone; `rasa index` again." in capsys.readouterr().err
    assert run("index", root) == 0
    assert "6 images; 0 encoded, 6 as before, 1 gone" in capsys.readouterr().out
    assert run("search", "red", "--in", root, "--json") == 0
    assert "new in the folder" not in capsys.readouterr().err


def test_other_weights_are_refused_with_the_remedy(trained, root, capsys):
    assert run("index", root, "--with", trained) == 0
    capsys.readouterr()
    assert run("index", root, "--with", "start") == 5
    told = capsys.readouterr().err
    assert "was indexed with" in told and "index with --anew" in told and told.count("\n") == 1
    assert run("search", "red", "--in", root, "--with", "start") == 5
    assert "was indexed with" in capsys.readouterr().err
    assert run("index", root, "--with", "start", "--anew") == 0
    assert "6 encoded" in capsys.readouterr().out
    assert run("search", "red", "--in", root, "--json") == 0


def test_weights_that_have_moved_are_named_anew(trained, root, tmp_path, capsys):
    moved, here = tmp_path / "moved", tmp_path / "here"
    shutil.copytree(trained, here)
    assert run("index", root, "--with", here) == 0
    here.rename(moved)
    capsys.readouterr()
    assert run("search", "red", "--in", root) == 5
    assert "if its weights have moved, say where to: --with RUN|CHECKPOINT" in capsys.readouterr().err
    assert run("search", "red", "--in", root, "--with", moved, "--json") == 0


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (("index", "{root}"), 2, "has no index yet; say --with which weights"),
        (("index", "{root}/none", "--with", "start"), 5, "does not exist; give a folder of images"),
        (("index", "{root}", "--with", "nothing"), 5, "nothing"),
        (("search", "red", "--in", "{root}"), 5, "has no index; make one: rasa index"),
        (("search", "red", "--in", "{root}/none"), 5, "is no folder; make one"),
        (("search", " ?! ", "--in", "{root}"), 2, "there is no word in the query"),
        (("search", "a" * 1001, "--in", "{root}"), 2, "the query has 1001 characters; at most 1000"),
        (("serve", "{root}"), 5, "has no index; make one"),
    ],
)
def test_what_is_not_there_is_one_line(root, capsys, arguments, code, text):
    assert run(*(argument.format(root=root) for argument in arguments)) == code
    told = capsys.readouterr().err
    assert text in told and "Traceback" not in told and not (root / ".rasa").exists()


def test_serve_listens_here_alone(trained, root, monkeypatch, capsys):
    import threading

    import uvicorn

    assert run("index", root, "--with", trained) == 0
    capsys.readouterr()
    real, answers = uvicorn.Server.run, []

    def for_one_request(server, sockets):
        thread = threading.Thread(target=real, args=(server, sockets), daemon=True)
        thread.start()
        (listening,) = sockets
        host, port = listening.getsockname()
        answers.append(host)
        address = f"http://{host}:{port}"
        answers.extend(
            get(address, "/", **headers)[0] for headers in ({}, {"Host": "evil.example"}, {"Host": "cam.lan"})
        )
        server.should_exit = True
        thread.join(10)

    monkeypatch.setattr(uvicorn.Server, "run", for_one_request)
    assert run("serve", root, "--port", 0) == 0
    assert answers == ["127.0.0.1", 200, 400, 400]
    captured = capsys.readouterr()
    assert captured.out.startswith("http://127.0.0.1:") and captured.err == ""
    answers.clear()
    assert run("serve", root, "--port", 0, "--name", "cam.lan") == 0
    assert answers == ["127.0.0.1", 200, 400, 200]


def test_a_port_that_is_taken_is_one_line(trained, root, capsys):
    assert run("index", root, "--with", trained) == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run("serve", root, "--port", taken.getsockname()[1]) == 5
    assert "give another --port (0: any) or --host" in capsys.readouterr().err
