"""Replaced words: what a run keeps of them, how confusing its generator is, and the page of several runs."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from experiments.records import files_of, read_record
from experiments.rundir import RESULT, read_json
from rasa.config.run import Config
from rasa.data.synthetic.synonyms import Synonyms
from rasa.data.tokenizer import Tokenizer
from rasa.errors import ResourceError
from rasa.objectives.language import IGNORED
from rasa.training.reopened import reopen
from rasa.training.replaced import Spoken, captions_of, generator_figures, spoken
from rasa.training.words import FILE, KEPT, Caption, Replaced, read_replaced, save_replaced
from reports import replaced_figure
from reports.replaced import asked, colour_of, readable, shares
from reports.replaced_command import replaced as command
from tests.helpers.browser import holds_up
from tests.helpers.one_row import EVERYTHING, run_directory, write_suite
from tests.helpers.people import write_people
from tests.helpers.short_runs import go, row

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "sweater", "jumper", "coat"]
PAD, CLS, SEP, A, RED, SWEATER, JUMPER, COAT = 0, 2, 3, 5, 6, 7, 8, 9
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer({word: number for number, word in enumerate(WORDS)}, "by hand")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


# ---- By hand ----

# Two captions: "a red sweater" and "a coat"; the generator speaks at red, sweater and coat.
IDS = torch.tensor([[CLS, A, RED, SWEATER, SEP], [CLS, A, COAT, SEP, PAD]])
NEW = torch.tensor([[CLS, A, RED, JUMPER, SEP], [CLS, A, SWEATER, SEP, PAD]])
TRACE = {
    "rtd_generator_logits": torch.tensor([[0.0] * 10, [0.0] * 8 + [99.0, 0.0], [0.0] * 7 + [99.0, 0.0, 0.0]]),
    "rtd_positions": torch.tensor([2, 3, 7]),
    "rtd_input_ids": NEW,
    # packed: five pieces of the first caption, four of the second
    "rtd_labels_packed": torch.tensor([IGNORED, 0, 0, 1, IGNORED, IGNORED, 0, 1, IGNORED]),
    "rtd_logits": torch.tensor([[0.0, math.log(odds)] for odds in (1, 1, 3, 1 / 3, 1, 1, 1 / 9, 9, 1)]),
}


def test_what_a_generator_says_by_hand(tokenizer):
    """Ten equal words: ln 10 nats; sure ones: 0. Of two exchanged words one is a synonym."""
    said = spoken(TRACE, IDS, tokenizer, Synonyms(tokenizer))
    assert said.replaced_P.tolist() == [False, True, True] and said.same_P.tolist() == [False, True, False]
    assert said.entropy_P.tolist() == pytest.approx([math.log(10), 0, 0], abs=1e-6)
    assert generator_figures([said]) == {"entropy": pytest.approx(math.log(10) / 3), "synonyms": 50.0}
    nothing = Spoken(torch.tensor([1.0, 3.0]), torch.tensor([False, False]), torch.tensor([False, False]))
    assert generator_figures([nothing]) == {"entropy": 2.0}
    assert generator_figures([nothing, said])["entropy"] == pytest.approx((4 + math.log(10)) / 5)


def test_captions_with_their_words_by_hand(tokenizer):
    said = spoken(TRACE, IDS, tokenizer, Synonyms(tokenizer))
    one, other = captions_of(TRACE, said, IDS, IDS != PAD, tokenizer, [17, 4], ["17.png", "4.png"])
    assert one == Caption(
        17, "17.png", ("a", "red", "sweater"), ("a", "red", "jumper"), (1, 2), (2,), (0.5, 0.75, 0.25)
    )
    assert other == Caption(4, "4.png", ("a", "coat"), ("a", "sweater"), (1,), (), (0.1, 0.9))
    assert one.replaced == (2,) and other.replaced == (1,)
    assert shares(Replaced("val", 1, "online", 0, (one, other))) == {
        "replaced": pytest.approx(57.5),
        "others": pytest.approx(45),
    }


# ---- What a run keeps ----


@pytest.fixture(scope="module", params=["f-rtd", "o-rtd", "m-rtd"])
def trained(request, people, cache, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / request.param
    config = row(people, request.param, evaluation={"detectors": True})
    return Config.model_validate(config), directory, go(config, directory, cache)


def test_a_run_keeps_words_and_says_how_confusing_they_are(trained):
    config, directory, (result, log) = trained
    words = read_replaced(directory / FILE)
    assert words.generator == config.objectives.generator and words.epoch == config.optimisation.epochs
    assert 0 < len(words.captions) <= KEPT and any(caption.replaced for caption in words.captions)
    for _, values in log.of("val"):
        assert 0 < values["rtd_entropy"] and 0 <= values["rtd_synonyms"] <= 100
    assert result["last"]["val"]["rtd_entropy"] == log.of("val")[-1][1]["rtd_entropy"]


def test_a_run_that_is_opened_again_says_the_same_and_nothing_is_written(trained, cache):
    """Its last checkpoint, with the momentum model: the same words and the same probabilities."""
    config, directory, (result, _) = trained
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    opened = reopen(config, directory, cache, result["digests"])
    assert opened.replaced_words(0).text() == (directory / FILE).read_text()
    other = opened.replaced_words(1, 3)
    assert len(other.captions) == 3 and other.draw == 1
    assert list(map(asked, other.captions)) != list(map(asked, read_replaced(directory / FILE).captions[:3]))
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_without_its_checkpoints_a_run_is_asked_by_its_selected_weights(trained, cache, tmp_path):
    """Where the last epoch is the selected one they are the same; a momentum model is not among them."""
    config, directory, (result, _) = trained
    left = shutil.copytree(directory, tmp_path / "left", ignore=shutil.ignore_patterns("checkpoints"))
    if config.objectives.generator == "momentum":
        with pytest.raises(ResourceError, match="not the momentum model"):
            reopen(config, left, cache, result["digests"])
        return
    found = reopen(config, left, cache, result["digests"]).replaced_words(0)
    assert found.epoch == result["selected"]["epoch"]
    assert (found.text() == (directory / FILE).read_text()) == (found.epoch == result["last"]["epoch"])
    shutil.rmtree(left / "selected")
    with pytest.raises(ResourceError, match="has kept no weights"):
        reopen(config, left, cache, result["digests"])


def test_a_run_with_damaged_checkpoints_or_other_data_is_refused(trained, cache, tmp_path):
    config, directory, (result, _) = trained
    damaged = shutil.copytree(directory, tmp_path / "damaged")
    for file in damaged.glob("checkpoints/*/state.json"):
        file.write_text("{}")
    with pytest.raises(ResourceError, match="no checkpoint that can be read"):
        reopen(config, damaged, cache, result["digests"])
    other = write_people(tmp_path / "other", seed=1, train=11)
    moved = config.model_copy(update={"data": config.data.model_copy(update={"root": other})})
    with pytest.raises(ResourceError, match="other data or words"):
        reopen(moved, directory, cache, result["digests"])


def test_without_being_asked_or_without_rtd_nothing_is_kept(people, cache, tmp_path):
    for name, asked_for in (("m-rtd", False), ("itm-prd", True)):
        go(row(people, name, evaluation={"detectors": asked_for}), tmp_path / name, cache)
        assert not (tmp_path / name / FILE).exists()


CAPTION = Caption(0, "a.png", ("a", "b"), ("a", "c"), (1,), (), (0.25, None))
KEPT_WORDS = Replaced("val", 3, "momentum", 0, (CAPTION, replace(CAPTION, caption=1)))


def test_what_is_kept_is_read_back(tmp_path):
    save_replaced(KEPT_WORDS, tmp_path / FILE)
    assert read_replaced(tmp_path / FILE) == KEPT_WORDS and [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.25", "1.25"),
        lambda text: text.replace("0.25", "NaN"),
        lambda text: text.replace('["a", "c"]', '["a"]'),
        lambda text: text.replace('["a", "c"]', '["a", 3]'),
        lambda text: text.replace('"masked": [1]', '"masked": [7]'),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: "[1]",
        lambda text: text.replace('"draw"', '"drawn"'),
    ],
)
def test_a_damaged_file_is_none(tmp_path, damage):
    (tmp_path / FILE).write_text(damage(KEPT_WORDS.text()))
    assert read_replaced(tmp_path / FILE) is None


def test_published_records_keep_the_words(tmp_path):
    """And those of a run without words have no such file."""
    folder = Path("reports/published/table4-synth/records")
    record = read_record(next((folder / "m-rtd").iterdir()), folder / "shared")
    assert FILE not in files_of(record)[0]
    own, shared = files_of(replace(record, words=KEPT_WORDS))
    for place, contents in ((tmp_path / "own", own), (tmp_path / "shared", shared)):
        place.mkdir()
        for name, content in contents.items():
            (place / name).write_bytes(content)
    assert read_record(tmp_path / "own", tmp_path / "shared").words == KEPT_WORDS


# ---- The page and the figure ----


def contrast(colour):
    def light(part):
        part /= 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    def luminance(code):
        return sum(w * light(int(code[k : k + 2], 16)) for w, k in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))

    return (luminance(colour) + 0.05) / (luminance("#1d1d1f") + 0.05)


def test_colours_grow_with_the_probability_and_dark_text_is_read_on_all():
    steps = [contrast(colour_of(share / 20)) for share in range(21)]
    assert steps == sorted(steps, reverse=True) and min(steps) > 4.5 and colour_of(0) == "#FFFFFF"


def test_pieces_are_shown_without_marks():
    assert [*map(readable, ("##ing", "coat</w>", "##", "a"))] == ["ing", "coat", "##", "a"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two runs of one suite, with the online and the momentum model as generators, and one without RTD."""
    from rasa.commands.cli import main

    place = tmp_path_factory.mktemp("suite")
    people = write_people(place / "people")
    file = write_suite(place, people, EVERYTHING, "online")
    spec = json.loads(file.read_text())
    (own,) = spec["rows"]
    momentum = {**own, "name": "m", "changes": {"objectives": own["changes"]["objectives"] | {"generator": "momentum"}}}
    plain = {**own, "name": "itm", "changes": {"objectives": {"weights": {"itm": 1.0}}}}
    spec["rows"] = [own, momentum, plain]
    spec["base"]["evaluation"]["detectors"] = True
    file.write_text(json.dumps(spec))
    arguments = ["run", str(file), "--profile", "smoke", "-o", f"data.root={people}", "--workspace", str(place / "ws")]
    assert main(arguments) == 0
    return place / "ws"


def invoke(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_page_has_runs_side_by_side(workspace, tmp_path):
    done = invoke("own/row", "own/m", "--workspace", workspace, "--out", tmp_path / "page", "--number", 3)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page" / "replaced.html").read_text()
    listed = json.loads((tmp_path / "page" / "replaced.json").read_text())
    assert [each["run"] for each in listed] == ["row seed 0", "m seed 0"]
    assert text.count("<article") == 3 and text.count("<h3>row seed 0</h3>") == text.count("<h3>m seed 0</h3>") == 3
    pairs = [zip(c["pieces"], c["new"], strict=True) for each in listed for c in each["captions"]]
    exchanged = sum(old != new for caption in pairs for old, new in caption)
    assert text.count("<del>") == exchanged + 2  # and two of the legend
    result = read_json(run_directory(workspace) / RESULT)
    assert f"<td>{result['last']['val']['rtd_auc']:.1f}</td>" in text
    assert len(list((tmp_path / "page" / "images").iterdir())) == 3
    shown = [int(part.split("<")[0]) for part in text.split('<span class="p">')[1:]]
    by_caption = zip(*(each["captions"] for each in listed), strict=True)
    assert shown == [round(100 * p) for runs in by_caption for caption in runs for p in caption["probability"]]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("own/itm",), "have no RTD"),
        (("own/nothing",), "has not been run"),
    ],
)
def test_what_has_no_words_is_refused(workspace, names, said):
    done = invoke(*names, "--workspace", workspace)
    assert done.exit_code != 0 and said in str(done.exception)


def test_runs_that_were_asked_otherwise_do_not_stand_side_by_side(workspace):
    file = run_directory(workspace) / FILE
    kept = file.read_text()
    words = read_replaced(file)
    try:
        save_replaced(replace(words, captions=words.captions[::-1]), file)
        done = invoke("own/row", "own/m", "--workspace", workspace)
        assert "other captions or masks" in str(done.exception)
        shifted = tuple(replace(each, caption=each.caption + 1) for each in words.captions)
        save_replaced(replace(words, captions=shifted), file)
        done = invoke("own/row", "--workspace", workspace)
        assert "another image" in str(done.exception)
    finally:
        file.write_text(kept)


def test_keep_asks_runs_that_were_trained_before(workspace, tmp_path):
    file = run_directory(workspace) / FILE
    kept, before = file.read_text(), list(map(asked, read_replaced(file).captions))
    file.unlink()
    done = invoke("own/row", "--workspace", workspace, "--out", tmp_path / "plain")
    assert done.exit_code == 0 and not file.exists()
    done = invoke("own/row", "--workspace", workspace, "--out", tmp_path / "kept", "--keep")
    assert done.exit_code == 0 and list(map(asked, read_replaced(file).captions)) == before
    file.write_text(kept)


def test_words_of_a_caption_are_text_on_the_page(workspace, tmp_path):
    file = run_directory(workspace) / FILE
    kept, words = file.read_text(), read_replaced(file)
    first = words.captions[0]
    evil = replace(first, pieces=(SCRIPT, *first.pieces[1:]), new=(SCRIPT, *first.new[1:]), masked=first.masked)
    try:
        save_replaced(replace(words, captions=(evil, *words.captions[1:])), file)
        assert invoke("own/row", "--workspace", workspace, "--out", tmp_path / "page").exit_code == 0
    finally:
        file.write_text(kept)
    text = (tmp_path / "page" / "replaced.html").read_text()
    assert SCRIPT not in text and "&lt;script&gt;" in text
    holds_up(tmp_path / "page" / "replaced.html", SCRIPT)


def test_the_figure_has_the_lowest_seed_of_each_row_on_the_same_captions(tmp_path):
    other = replace(CAPTION, new=("a", "d"), probability=(0.5, 0.75))
    words = {("m", 1): (CAPTION,), ("m", 0): (other,), ("f", 2): (CAPTION,)}
    found = {key: Replaced("val", 3, "momentum", 0, captions) for key, captions in words.items()}
    figure = replaced_figure.shown(found, {"f": "F", "m": "M"})
    assert [row.label.split(" (")[0] for row in figure] == ["F, seed 2", "M, seed 0"]
    assert figure[1].captions[0].new == ("a", "d")
    told = replaced_figure.describe(figure)
    assert "b by d (75 %)" in told and "b by c" in told
    found["m", 0] = replace(found["m", 0], captions=(replace(other, masked=(0, 1)),))
    assert len(replaced_figure.shown(found, {"f": "F", "m": "M"})) == 1
    replaced_figure.draw(figure, tmp_path / "words.svg")
    drawn = (tmp_path / "words.svg").read_text()
    assert drawn.count("#222222") > 0 and ">75<" in drawn


def test_letters_that_the_font_lacks_and_markup_are_text_in_the_figure(tmp_path):
    evil = replace(CAPTION, pieces=("红色", "b"), new=("红色", SCRIPT))
    figure = replaced_figure.shown({("m", 0): Replaced("val", 3, "momentum", 0, (evil,))}, {"m": "M"})
    replaced_figure.draw(figure, tmp_path / "words.svg")
    replaced_figure.draw(figure, tmp_path / "words.png")
    drawn = (tmp_path / "words.svg").read_text()
    assert SCRIPT not in drawn and "&lt;script&gt;" in drawn
