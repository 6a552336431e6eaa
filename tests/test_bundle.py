"""Bundles: a published report as one zip, checked where nothing else of the runs is, and zips that mean harm."""

import json
import lzma
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from experiments import predictions
from experiments.records import PACKED
from experiments.rundir import ABOUT, RESULT
from rasa.errors import RasaError, ResourceError
from reports import archive
from reports.archive import opened, pack
from reports.bundle_command import bundle
from reports.commands import restore, verify
from reports.publication import MANIFEST, RECORDS
from tests.test_publish import invoke, place, sign, target  # noqa: F401  # place: a workspace of nine runs and a start


@pytest.fixture(scope="module")
def bundled(place, tmp_path_factory):  # noqa: F811
    """The bundle of the suite, far from the workspace."""
    file = tmp_path_factory.mktemp("bundle") / "tiny.zip"
    done = invoke(bundle, *target(place, place / "ws", file))
    assert done.exit_code == 0 and "9 runs, " in done.output, done.output
    return file


@pytest.fixture
def unzipped(bundled, tmp_path):
    """Its folder, to be changed and packed again."""
    folder = tmp_path / "unzipped"
    shutil.unpack_archive(bundled, folder)
    return folder


def test_a_bundle_is_verified_where_nothing_else_is_and_its_bytes_are_the_runs_(bundled, place, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert invoke(verify, bundled).output == f"{bundled}: 9 runs; every digit as printed\n"
    again = tmp_path / "again.zip"
    assert invoke(bundle, *target(place, place / "ws", again)).exit_code == 0
    assert again.read_bytes() == bundled.read_bytes()
    with zipfile.ZipFile(bundled) as file:
        names = file.namelist()
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names) and {"seeds.csv", "r1.svg", "report.html", "specs/tiny.yaml", MANIFEST} < {*names}
    assert len([name for name in names if name.endswith(PACKED)]) == 10
    assert str(place).encode() not in b"".join(
        zipfile.ZipFile(bundled).read(name) for name in names if "json" in name[-4:] and name != MANIFEST
    )


def test_one_changed_digit_and_one_changed_prediction_are_found(unzipped, tmp_path):
    """As they are, by the digests; with digests made to fit, by what follows from the records."""
    table = unzipped / "seeds.csv"
    text = table.read_text()
    at = text.index("itm,") + text[text.index("itm,") :].index(".") - 1
    table.write_text(text[:at] + str((int(text[at]) + 5) % 10) + text[at + 1 :])
    file = tmp_path / "changed.zip"
    pack(unzipped, file)
    assert_refused(file, "seeds.csv: changed since it was published")
    sign(unzipped)
    pack(unzipped, file)
    assert_refused(file, "seeds.csv: row itm seed 0, column ")
    table.write_text(text)
    packed = next(unzipped.glob(f"{RECORDS}/s/seed-0-*/{PACKED}"))
    arrays = predictions.unpack(packed.read_bytes(), "")
    arrays["first_rank"][7] = 1 if arrays["first_rank"][7] > 1 else 2
    packed.write_bytes(predictions.pack(arrays))
    sign(unzipped)
    pack(unzipped, file)
    assert_refused(file, f"{RESULT}: test r1: printed ")
    (unzipped / "more.html").write_text("not of the report")
    pack(unzipped, file)
    assert_refused(file, "more.html: manifest.json does not list it")


def assert_refused(file, text):
    done = invoke(verify, file)
    assert done.exit_code == 1 and isinstance(done.exception, RasaError) and text in done.output, done.output
    assert "rasa-bundle-" not in done.output  # the folder that it was unpacked to is gone


def test_one_run_is_bundled_from_its_directory_and_goes_on_elsewhere(place, tmp_path):  # noqa: F811
    (directory,) = (place / "ws").glob("runs/tiny/itm/synth/seed-1-*")
    file = tmp_path / "run.zip"
    done = invoke(bundle, directory, file)
    assert done.exit_code == 0 and f"{file}: 1 run, " in done.output
    assert invoke(verify, file).output == f"{file}: 1 run; every digit as printed\n"
    by_row = tmp_path / "row.zip"
    invoke(bundle, "tiny/itm", by_row, "--seed", 1, "--workspace", place / "ws")
    assert by_row.read_bytes() == file.read_bytes()
    with opened(file) as folder:
        result = json.loads(next(folder.glob(f"{RECORDS}/itm/*/{RESULT}")).read_text())
        about = json.loads(next(folder.glob(f"{RECORDS}/itm/*/{ABOUT}")).read_text())
        assert {"start", "itm", "shared"} == {path.name for path in (folder / RECORDS).iterdir()}
        assert f"{result['test']['r1']:.1f}" in (folder / "table.md").read_text()
        assert about["data_digest"] and about["weights_digest"] and about["paper"] == {"r1": 71.29}
    done = invoke(restore, file, "--workspace", tmp_path / "ws")
    assert done.exit_code == 0 and (tmp_path / "ws/runs/tiny/itm/synth" / directory.name / RESULT).is_file()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["tiny.yaml", "out.txt"], "out.txt: a bundle is a zip file"),
        (["tiny/itm", "out.zip", "-o", "seed=1"], "tiny/itm is one run, which is settled; leave -o out"),
        (["tiny.yaml", "out.zip", "--seed", "1"], "--seed is of a run that is named by its row"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(bundle, *arguments)
    assert done.exit_code == 2 and text in done.output and not list(tmp_path.glob("*.zip"))


def test_what_cannot_be_bundled_says_why(place, tmp_path):  # noqa: F811
    (start,) = (place / "ws").glob("runs/tiny/start/synth/seed-0-*")
    assert "belongs to its suite" in str(invoke(bundle, start, tmp_path / "x.zip").exception)
    (run,) = (place / "ws").glob("runs/tiny/itm/synth/seed-1-*")
    shutil.copytree(run, tmp_path / "ws/runs/tiny/itm/synth" / run.name)
    (tmp_path / "ws/runs/tiny/itm/synth" / run.name / RESULT).unlink()
    assert "not finished" in str(invoke(bundle, run.name, tmp_path / "x.zip", "--workspace", tmp_path / "ws").exception)
    fault = invoke(bundle, run, tmp_path / "nowhere" / "x.zip").exception
    assert isinstance(fault, ResourceError) and "give a file that can be written" in str(fault)


def entry(name, content=b"x", kind=stat.S_IFREG, **others):
    """An entry that is not escaped by the library that writes it."""
    made = zipfile.ZipInfo("x")
    made.filename, made.external_attr = name, (kind | 0o644) << 16
    for key, value in others.items():
        setattr(made, key, value)
    return made, content


HOSTILE = {
    "above": ([entry("../evil")], "'../evil' does not stay in its folder"),
    "inside": ([entry("records/../../evil")], "does not stay in its folder"),
    "absolute": ([entry("/tmp/evil")], "'/tmp/evil' does not stay in its folder"),
    "drive": ([entry("C:/evil")], "does not stay in its folder"),
    "backslash": ([entry("..\\evil")], "does not stay in its folder"),
    "hidden": ([entry(".bashrc")], "does not stay in its folder"),
    "newline": ([entry("a\nb")], "does not stay in its folder"),
    "nul": ([entry("good\0/../evil")], "does not stay in its folder"),
    "deep": ([entry("/".join("a" * 9))], "does not stay in its folder"),
    "long": ([entry("a" * 300)], "does not stay in its folder"),
    "folder": ([entry("../up/", b"")], "does not stay in its folder"),
    "link": ([entry("records", b"/etc", stat.S_IFLNK)], "'records' is a link or a device"),
    "device": ([entry("records", b"", stat.S_IFCHR)], "'records' is a link or a device"),
    "twice": ([entry("a"), entry("a", b"y")], "'a' is there twice"),
    "method": ([entry("a", compress_type=zipfile.ZIP_BZIP2)], "compressed in a way that is not read"),
    "many": ([entry(f"f{number}", b"") for number in range(30)], "31 files, and 20 are the most"),
    "bomb": ([entry("a", bytes(2**22), compress_type=zipfile.ZIP_DEFLATED)], "unpacks to 4 MiB, and 1 are the most"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_zip_that_means_harm_is_refused_whole(name, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 20)
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    entries, text = HOSTILE[name]
    file = tmp_path / "in" / "hostile.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("manifest.json", "{}")
        for info, content in entries:
            made.writestr(info, content)
    unpacked = []
    monkeypatch.setattr(archive.shutil, "copyfileobj", lambda *files: unpacked.append(files))
    for command in (verify, restore):
        fault = invoke(command, file).exception
        assert isinstance(fault, ResourceError) and text in str(fault) and "\n" not in str(fault), fault
    assert not unpacked and [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_encrypted_zip_is_refused(tmp_path):
    """The flag stands 8 bytes into an entry of the zip's directory."""
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("manifest.json", "{}")
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)
    assert "'manifest.json' is encrypted" in str(invoke(verify, file).exception)


def test_a_zip_that_lies_about_its_sizes_unpacks_to_no_more_than_it_declared(tmp_path):
    """8 MiB of zeros, declared as 10 bytes in both headers."""
    file = tmp_path / "lie.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("manifest.json", bytes(2**23))
    file.write_bytes(file.read_bytes().replace((2**23).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    fault = invoke(verify, file).exception
    assert isinstance(fault, ResourceError) and "a damaged zip (Bad CRC-32" in str(fault)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", None])
def test_what_is_no_zip_says_so(content, tmp_path, bundled):
    file = tmp_path / "x.zip"
    file.write_bytes(bundled.read_bytes()[:-200] if content is None else content)
    fault = invoke(verify, file).exception
    assert isinstance(fault, ResourceError) and "a damaged zip" in str(fault) and "\n" not in str(fault)
    assert "cannot be read" in str(invoke(verify, tmp_path / "none.zip").exception) or "give a bundle" in str(
        invoke(verify, tmp_path / "none.zip").exception
    )


def test_predictions_that_unpack_without_end_are_refused(unzipped, tmp_path, monkeypatch):
    """A gigabyte's worth of zeros is 150 kB as xz; none of it is held."""
    monkeypatch.setattr(predictions, "MOST", 2**26)
    packed = next(unzipped.glob(f"{RECORDS}/s/seed-0-*/{PACKED}"))
    packed.write_bytes(lzma.compress(bytes(2**27), format=lzma.FORMAT_XZ, preset=1))
    assert packed.stat().st_size < 2**16
    sign(unzipped)
    pack(unzipped, tmp_path / "bomb.zip")
    assert_refused(tmp_path / "bomb.zip", f"{PACKED}: damaged")


def altered_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda m: m["runs"].__setitem__(0, "../../other"), "runs.0: Value error, '../../other' is no path inside"),
        (lambda m: m["runs"].__setitem__(0, "/etc"), "'/etc' is no path inside a folder"),
        (lambda m: m.update(suite="../tiny.yaml"), "suite: Value error"),
        (lambda m: m["files"].update({"../../etc/passwd": "0"}), "is no path inside a folder"),
        (lambda m: m.update(resamples=10**9), "resamples: Input should be less than or equal to 100000"),
        (lambda m: m.update(margin=float("nan")), "margin: "),
    ],
)
def test_a_manifest_names_nothing_outside_and_asks_for_no_endless_work(unzipped, tmp_path, change, text):
    altered_json(unzipped / MANIFEST, change)
    pack(unzipped, tmp_path / "x.zip")
    for command in (verify, restore):
        fault = invoke(command, tmp_path / "x.zip").exception
        assert isinstance(fault, ResourceError) and text in str(fault) and "\n" not in str(fault), fault


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda who: who.update(suite="../../../evil"), "is no name of a suite"),
        (lambda who: who.update(row="a/b"), "is no name of a suite"),
        (lambda who: who.update(run_id=".."), "is no name of a suite"),
        (lambda who: who["shared"].update(spec="../../../../etc/passwd"), "is no path inside a folder"),
        (lambda who: who.update(shared=[]), "no record of a run"),
    ],
)
def test_a_record_names_nothing_outside(unzipped, tmp_path, change, text):
    altered_json(next(unzipped.glob(f"{RECORDS}/s/seed-0-*/{ABOUT}")), change)
    sign(unzipped)
    pack(unzipped, tmp_path / "x.zip")
    assert_refused(tmp_path / "x.zip", text)
    fault = invoke(restore, tmp_path / "x.zip", "--workspace", tmp_path / "ws").exception
    assert isinstance(fault, ResourceError) and text in str(fault)
    assert not (tmp_path / "ws").exists() and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result["test"].update(r1="high"),
        lambda result: result.update(test=[1, 2]),
        lambda result: result.update(sizes={"test": {"identities": "many"}}),
        lambda result: result["selected"].update(val=None),
        lambda result: result.update(cost={"seconds": {}}),
    ],
)
def test_a_result_of_other_types_is_one_line(unzipped, tmp_path, change):
    for path in unzipped.glob(f"{RECORDS}/s/seed-*/{RESULT}"):
        altered_json(path, change)
    sign(unzipped)
    pack(unzipped, tmp_path / "x.zip")
    done = invoke(verify, tmp_path / "x.zip")
    assert done.exit_code == 1 and "cannot be computed again" in done.output and "Traceback" not in done.output


def test_a_folder_stays_what_it_is(place):  # noqa: F811
    with opened(place / "out") as folder:
        assert folder == place / "out"
    assert Path(folder).exists()
