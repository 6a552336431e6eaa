"""`rasa data check`, `stats` and the built-in benchmark's folder."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from rasa.commands.data import data as data_group
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Data
from rasa.data.check import check
from rasa.data.load import ensure_builtin, load_dataset
from rasa.data.stats import contact_sheet, stats
from rasa.errors import ResourceError
from tests.helpers.pedes_folder import people, record, write

SMALL = BenchmarkParams(
    train_identities=3, val_identities=1, test_identities=2, images_per_identity=2, image_height=32, image_width=16
)


def section(root, records=None, layout="cuhk-pedes", **changes):
    described = write(root, layout, people(layout) if records is None else records)
    return described.model_copy(update={"tokenizer": "captions", "vocabulary_size": 500} | changes)


def found(problems, refused):
    return {problem.kind: problem for problem in problems if problem.refused == refused}


def run(*arguments):
    return CliRunner().invoke(data_group, [str(argument) for argument in arguments], catch_exceptions=False)


def test_clean_data_has_nothing_to_refuse(tmp_path):
    problems = check(section(tmp_path))
    assert found(problems, refused=True) == {}
    notes = found(problems, refused=False)
    assert list(notes) == ["one-caption"]
    assert notes["one-caption"].message == f"{tmp_path}: identities with one caption, so without a weak pair: 2"


def test_every_damaged_image_is_listed_by_its_kind(tmp_path):
    names = ("empty", "cut", "foreign", "tiny", "huge", "fine")
    extra = [record("cuhk-pedes", "train", 8, f"{name}.png", ["One person"]) for name in names]
    described = section(tmp_path, people("cuhk-pedes") + extra)
    images = tmp_path / "imgs"
    whole = Image.effect_noise((64, 64), 50)
    whole.save(images / "cut.png")
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:2000])
    (images / "empty.png").write_bytes(b"")
    (images / "foreign.png").write_bytes(b"GIF89a" + bytes(50))
    Image.new("1", (4, 1)).save(images / "tiny.png")
    Image.new("1", (8001, 8001)).save(images / "huge.png")
    seen = []
    problems = found(check(described, workers=1, on_progress=lambda *step: seen.append(step)), refused=True)
    remedy = "replace them or remove their records"
    assert {kind: problem.message for kind, problem in problems.items()} == {
        "zero-byte": f"{images}: zero-byte images: 1 (empty.png); {remedy}",
        "truncated": f"{images}: truncated images: 1 (cut.png); {remedy}",
        "unsupported": f"{images}: unsupported images: 1 (foreign.png); {remedy}",
        "tiny": f"{images}: tiny images: 1 (tiny.png); {remedy}",
        "too-large": f"{images}: too-large images: 1 (huge.png); {remedy}",
    }
    assert seen == [(done, 11) for done in range(1, 12)]


def test_converted_images_are_worth_a_note(tmp_path):
    described = section(tmp_path)
    folder = tmp_path / "imgs" / "CUHK01"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 32)).save(folder / "a.jpg", exif=exif)
    Image.new("CMYK", (16, 32)).save(folder / "b.jpg")
    problems = check(described)
    assert found(problems, refused=True) == {}
    notes = {problem.message for problem in problems if problem.kind == "converted"}
    assert notes == {
        f"{tmp_path / 'imgs'}: CMYK images, which are converted: 1 (CUHK01/b.jpg)",
        f"{tmp_path / 'imgs'}: EXIF-rotated images, which are converted: 1 (CUHK01/a.jpg)",
    }


def test_all_faults_are_listed_where_reading_stops_at_the_first(tmp_path):
    records = people("cuhk-pedes")
    records[0]["captions"] = []
    records[1]["split"] = "eval"
    records[1]["id"] = None
    records[2]["file_path"] = "../c.jpg"
    described = section(tmp_path / "data", records)
    (tmp_path / "data" / "imgs" / "CUHK01" / "e.jpg").unlink()
    (tmp_path / "data" / "imgs" / "CUHK01" / "d.jpg").write_bytes(b"")
    messages = [problem.message for problem in check(described) if problem.refused]
    expected = [
        "record 0: captions is []",
        "record 1: split is 'eval'",
        "record 1: id is None",
        "record 2: file_path '../c.jpg' climbs",
        "no usable record has split train",
        "1 of 4 annotated images are missing: CUHK01/e.jpg",
        "zero-byte images: 1 (CUHK01/d.jpg)",
    ]
    assert len(messages) == len(expected)
    assert all(part in message for part, message in zip(expected, messages, strict=True))
    with pytest.raises(ResourceError, match="record 0: captions is"):
        load_dataset(described)


def test_captions_that_are_long_or_foreign_are_counted(tmp_path):
    records = people("cuhk-pedes")
    records[0]["captions"] = ["one two three four", "één"]
    records[2]["captions"] = ["six words are more than five", "and a 😀"]
    notes = found(check(section(tmp_path, records, max_words=5, max_tokens=6)), refused=False)
    assert notes["words"].message == f"{tmp_path}: captions over data.max_words 5 words, which are cut: 1"
    assert notes["tokens"].count == 1  # five words, [CLS] and [SEP] are 7; four words just fit
    assert notes["non-ascii"].count == 2


def test_what_only_the_splits_show_is_listed(tmp_path):
    described = section(tmp_path, layout="icfg-pedes", val_identities=50)
    problem = found(check(described), refused=True)["splits"]
    assert problem.message.startswith("data.val_identities 50 leaves fewer than 2 of the 4 training identities")


def test_nothing_to_go_through_is_one_problem(tmp_path):
    described = section(tmp_path)
    (tmp_path / "reid_raw.json").write_text("[")
    assert [problem.kind for problem in check(described)] == ["annotations"]


def test_tokenizer_that_cannot_be_loaded_is_a_note(tmp_path):
    notes = found(check(section(tmp_path, tokenizer=str(tmp_path / "no" / "folder"))), refused=False)
    assert "cannot be loaded" in notes["tokenizer"].message


def test_stats_by_hand(tmp_path):
    """Train: a.jpg 'a man in red', 'man with a bag'; c.jpg 4 words and 4; b.jpg 4: 4 in the mean."""
    described = section(tmp_path)
    Image.new("RGB", (20, 64)).save(tmp_path / "imgs" / "CUHK01" / "c.jpg")
    train = stats(load_dataset(described))["train"]
    assert train == {
        "identities": 2,
        "images": 3,
        "captions": 5,
        "words_per_caption": {"mean": 4.0, "min": 4, "max": 4},
        "images_per_identity": {"mean": 1.5, "min": 1, "max": 2},
        "captions_per_identity": {"mean": 2.5, "min": 1, "max": 4},
        "image_height": {"mean": 42.67, "min": 32, "max": 64},
        "image_width": {"mean": 17.33, "min": 16, "max": 20},
    }


def test_contact_sheet_shows_the_pictures(tmp_path):
    dataset = load_dataset(section(tmp_path))
    contact_sheet(dataset, tmp_path / "sheet.png", rows=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        red, _, blue = sheet.getpixel((50, 90))
        assert red > 250 and blue < 5  # the first picture is red
        assert sheet.getpixel((300, 400)) == (255, 255, 255)
    with pytest.raises(ResourceError, match="no/sheet.png: the sheet cannot be written .*; give a writable file"):
        contact_sheet(dataset, tmp_path / "no" / "sheet.png")


def test_check_command(tmp_path):
    section(tmp_path)
    result = run("check", tmp_path)
    assert (result.exit_code, result.stdout) == (
        0,
        f"note: {tmp_path}: identities with one caption, so without a weak pair: 2\n",
    )
    (tmp_path / "imgs" / "CUHK01" / "a.jpg").write_bytes(b"")
    result = run("check", tmp_path)
    assert result.exit_code == 5
    assert result.stdout.startswith(f"problem: {tmp_path / 'imgs'}: zero-byte images: 1 (CUHK01/a.jpg);")
    result = run("check", tmp_path, "--json")
    assert result.exit_code == 5
    assert json.loads(result.stdout)[0] | {"message": ""} == {
        "kind": "zero-byte",
        "message": "",
        "count": 1,
        "refused": True,
    }


def test_stats_command(tmp_path):
    section(tmp_path, layout="rstpreid")
    result = run("stats", tmp_path, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0 and "words per caption" in result.stdout
    assert (tmp_path / "sheet.png").exists()
    document = json.loads(run("stats", tmp_path, "--format", "rstpreid", "--json").stdout)
    assert document["name"] == "rstpreid" and document["splits"]["val"]["captions"] == 2


def test_synth_command_builds_what_stats_counts(tmp_path):
    folder = tmp_path / "made here"
    arguments = ("--identities", "3,1,2", "--images-per-identity", 2, "--seed", 5, "--size", "32x16")
    result = run("synth", folder, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{folder}\n")
    document = json.loads(run("stats", folder, "--json").stdout)
    assert document["name"] == "synthetic"
    assert [split["identities"] for split in document["splits"].values()] == [3, 1, 2]
    assert document["splits"]["train"]["image_height"] == {"mean": 32.0, "min": 32, "max": 32}
    assert run("check", folder).exit_code == 0
    with pytest.raises(
        ResourceError, match="made here: exists and is not an empty directory; remove it or choose another"
    ):
        run("synth", folder, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--identities", "3,1"), "'3,1' is not of the form TRAIN,VAL,TEST"),
        (("--identities", "3,1,x"), "'3,1,x' is not of the form TRAIN,VAL,TEST"),
        (("--size", "96"), "'96' is not of the form HxW"),
        (("--size", "4x4"), "image_height 4: Input should be greater than or equal to 16"),
        (("--seed", "-1"), "seed -1: Input should be greater than or equal to 0"),
    ],
)
def test_synth_command_refuses_by_name(tmp_path, arguments, message):
    result = run("synth", tmp_path / "none", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "none").exists()


def test_builtin_benchmark_is_built_once(tmp_path):
    root = ensure_builtin(SMALL, tmp_path / "data")
    assert root.parent == tmp_path / "data" and root.name.startswith("synthetic-")
    assert load_dataset(Data(root=root)).name == "synthetic"
    before = (root / "reid_raw.json").stat().st_mtime_ns
    assert ensure_builtin(SMALL, tmp_path / "data") == root
    assert (root / "reid_raw.json").stat().st_mtime_ns == before
    other = ensure_builtin(SMALL.model_copy(update={"seed": 1}), tmp_path / "data")
    assert other != root


def test_leftover_of_a_killed_build_is_removed(tmp_path):
    name = ensure_builtin(SMALL, tmp_path / "one").name
    (tmp_path / "two" / f".{name}-abc" / "imgs").mkdir(parents=True)
    root = ensure_builtin(SMALL, tmp_path / "two")
    assert sorted(entry.name for entry in root.parent.iterdir()) == [name, f"{name}.lock"]


def test_two_processes_build_one_benchmark(tmp_path):
    """Each reports how often it drew an image: one of them drew all, the other waited."""
    code = (
        "import sys; from pathlib import Path; from rasa.data.load import ensure_builtin;"
        "from rasa.config.benchmark import BenchmarkParams; steps = [];"
        f"params = BenchmarkParams.model_validate_json({SMALL.model_dump_json()!r});"
        "root = ensure_builtin(params, Path(sys.argv[1]), lambda *step: steps.append(step)); print(root, len(steps))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "shared")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert answers[0][0] == answers[1][0]
    assert sorted(int(answer[1]) for answer in answers) == [0, 12]


def test_builtin_benchmark_needs_a_writable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="file/synthetic-.*: the built-in benchmark cannot be written .*; choose a"):
        ensure_builtin(SMALL, tmp_path / "file")


def test_command_module_imports_click_alone():
    code = (
        "import sys, rasa.commands.data; "
        "print(sorted({'torch', 'numpy', 'rich', 'pydantic', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
