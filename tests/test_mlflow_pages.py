"""A suite as a real MLflow server shows it: names, notes, and the report and gallery that were filed there.

In Chromium, where there is one.
"""

import json
import re
from pathlib import Path

import pytest

from experiments import store
from experiments.pages import Of, log_pages
from rasa.commands.cli import main
from tests.helpers.browser import opened
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.servers import Mlflow

HOSTILE = "<script>document.title='taken'</script><b>bold</b> & [x](javascript:1)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Mlflow(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, server):
    """Two rows of a few people; a caption, a label and the title are HTML. Reported and shown, with --log, twice."""
    folder = tmp_path_factory.mktemp("pages")
    people = write_people(folder / "people", train=6, val=3, test=4)
    records = json.loads((people / "reid_raw.json").read_text())
    next(record for record in records if record["split"] == "test")["captions"][0] = HOSTILE
    (people / "reid_raw.json").write_text(json.dumps(records))
    suite = write_suite(folder, 2)
    spec = json.loads(suite.read_text())
    spec |= {"title": HOSTILE}
    spec["rows"][0]["labels"] = [HOSTILE]
    suite.write_text(json.dumps(spec))
    shown = (
        ("report", suite, "-o", f"data.root={people}", "--log"),
        ("gallery", "own/row-0", "own/row-1", "--number", "2", "--log"),
    )
    for command in (("run", suite, "-o", f"data.root={people}"), *shown, *shown):
        assert main([*map(str, command), "--workspace", str(folder), "--tracking-uri", server.uri]) == 0
    return folder


@pytest.fixture
def client(workspace, server):
    return store.open_store(server.uri)


def runs(client, kind):
    experiment = client.get_experiment_by_name("own").experiment_id
    return client.search_runs([experiment], f"tags.`rasa.kind` = '{kind}'")


def files(client, run, path=None):
    found = client.list_artifacts(run, path)
    return [name for each in found for name in (files(client, run, each.path) if each.is_dir else [each.path])]


def test_pages_that_were_asked_for_twice_are_there_once(client, workspace):
    assert len(runs(client, "row")) == 2 and len(runs(client, "seed")) == 2
    by_name = {run.info.run_name: run for run in runs(client, "report")}
    (report,) = (run for name, run in by_name.items() if name.startswith("report own-smoke-"))  # with data.root
    (gallery,) = (run for name, run in by_name.items() if name == "report own-smoke")
    assert len(by_name) == 2 and report.info.status == "FINISHED"
    (folder,) = (workspace / "report").glob("own-smoke-*")
    written = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert files(client, report.info.run_id) == sorted(f"report/{name}" for name in written)
    (label,) = {Path(path).parent.name for path in files(client, gallery.info.run_id)}
    assert label.startswith("row-0-row-1-seed-0-")
    shown = f"gallery/{label}"
    assert files(client, gallery.info.run_id) == [f"{shown}/gallery.html", f"{shown}/gallery.json"]


def test_a_filed_gallery_needs_no_file_beside_it(client, workspace, tmp_path):
    (run,) = (run for run in runs(client, "report") if run.info.run_name == "report own-smoke")
    (path,) = (path for path in files(client, run.info.run_id) if path.endswith(".html"))
    page = Path(client.download_artifacts(run.info.run_id, path, str(tmp_path)))
    sources = re.findall(r'<img src="([^"]{30})', page.read_text())
    (own,) = workspace.glob("gallery/*/gallery.html")
    assert len(sources) == own.read_text().count('<img src="images/') > 20
    assert {source[:23] for source in sources} == {"data:image/jpeg;base64,"}
    with opened(page) as shown:
        assert (shown.errors, shown.evaluate("document.scripts.length")) == ([], 0)
        assert shown.evaluate("document.title") == "What row-0 seed 0 and row-1 seed 0 found"


# MLflow leaves its server's answer to DELETE unread, and the connection to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_what_is_filed_anew_takes_the_place_of_what_was_there(client, server, workspace, tmp_path):
    of = Of("own", "smoke", "own-other")
    for names in (("a.html", "below/b.png"), ("a.html",)):
        folder = tmp_path / f"of-{len(names)}"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(names))
        run = log_pages(server.uri, workspace, of, folder, "report", note=f"has {len(names)}")
        log_pages(server.uri, workspace, of, folder, "gallery/one")
    assert files(client, run) == ["gallery/one/a.html", "report/a.html"]
    page = Path(client.download_artifacts(run, "report/a.html", str(tmp_path)))
    assert page.read_text() == "('a.html',)"
    assert client.get_run(run).data.tags["mlflow.note.content"] == "has 1"
    client.set_tag(run, "mlflow.note.content", "mine")
    log_pages(server.uri, workspace, of, folder, "report", note="has 2")
    assert client.get_run(run).data.tags["mlflow.note.content"] == "mine"
    client.delete_run(run)


CELL = "[...document.querySelectorAll('[role=gridcell] a')].find(a => a.innerText.trim() == 'row-0')"
TEXT = "document.body.innerText"


def test_the_server_s_pages_show_names_and_notes_that_are_text(client, server):
    (row,) = (run for run in runs(client, "row") if run.data.tags["rasa.row"] == "row-0")
    address = f"{server.uri}/#/experiments/{row.info.experiment_id}/runs"
    with opened(address) as page:
        page.wait_for(CELL)
        page.evaluate(f"{CELL}.closest('[role=gridcell]').querySelector('button').click()")
        for name in (
            "row-0/seed-0",
            "row-1",
            "report own-smoke",
            "rasa report FILE.yaml",
        ):  # they come one after the other
            page.wait_for(f"{TEXT}.includes({name!r})")
        text = page.evaluate(TEXT)
        assert "row-1\n" in text and "report own-smoke" in text and "rasa report FILE.yaml" in text
        assert HOSTILE in text  # the suite's title, in the experiment's note
        page.evaluate(f"location.href = '{address}/{row.info.run_id}'")
        page.wait_for(f"{TEXT}.includes({json.dumps('Setting: ' + HOSTILE)})")  # the row's label, in its own
        assert page.evaluate("document.title") != "taken"
        assert not page.evaluate("[...document.querySelectorAll('b, script')].some(e => e.innerText.includes('taken'))")
