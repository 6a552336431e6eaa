"""`rasa errors`: groups of queries from the benchmark's own facts and from a user's table, and figures by hand."""

import json

import numpy as np
import pytest

from experiments.decisions import Queries
from rasa.commands.cli import main
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Data
from rasa.data.load import load_dataset
from rasa.data.synthetic.write import write_benchmark
from rasa.errors import ResourceError
from reports.answers import Asked
from reports.compare import Run, Side, compare
from reports.errors import Group, groups_of, reached
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """(folder, what the test split of a small benchmark asks)."""
    folder = tmp_path_factory.mktemp("benchmark") / "data"
    write_benchmark(folder, BenchmarkParams(train_identities=2, val_identities=2, test_identities=40, mistakes=0.2))
    dataset = load_dataset(Data(root=folder))
    split = dataset.splits["test"]
    own = np.asarray(split.caption_images)
    asked = Asked(
        dataset.image_root,
        split.image_files,
        np.asarray(split.image_identities),
        split.captions,
        np.asarray(split.caption_identities),
        own,
        {int(split.image_identities[0]): 1},
    )
    return folder, asked


def captions_of(folder):
    """(what each test caption tells, its mistakes, its file), read from the facts without the product's reader."""
    for record in json.loads((folder / "facts.json").read_text()):
        if record["split"] == "test":
            for caption in record["captions"]:
                yield caption["told"], caption["mistaken"], record["file_path"]


def test_groups_are_what_the_facts_say(benchmark):
    folder, asked = benchmark
    groups = {(group.attribute, group.value): group.mask_T.tolist() for group in groups_of(asked, None)}
    captions = list(captions_of(folder))
    assert len(captions) == len(asked.texts) == 40 * 4 * 2
    assert groups["bag", "named"] == ["bag" in told for told, _, _ in captions]
    assert groups["hair", "named"] == ["hair" in told or "hair_colour" in told for told, _, _ in captions]
    assert groups["what is told", "one thing wrong"] == [bool(mistaken) for _, mistaken, _ in captions]
    assert 0 < sum(groups["what is told", "one thing wrong"]) < len(captions)
    colours = [sum(name.endswith("_colour") for name in told) for told, _, _ in captions]
    assert groups["colours named", "2 to 3"] == [2 <= number <= 3 for number in colours]
    assert groups["camera", "cam1"] == [file.startswith("cam1/") for _, _, file in captions]
    first = int(asked.image_identity_N[0])
    assert groups["near-twin", "has one"] == [identity == first for identity in asked.identity_T.tolist()]


def test_each_query_is_in_one_group_of_each_attribute(benchmark):
    _, asked = benchmark
    groups = groups_of(asked, None)
    for attribute in {group.attribute for group in groups}:
        together = np.sum([group.mask_T for group in groups if group.attribute == attribute], axis=0)
        assert (together == 1).all(), attribute


def test_groups_of_a_users_table(benchmark, tmp_path):
    _, asked = benchmark
    table, files = tmp_path / "mine.csv", sorted({asked.image_files[image] for image in asked.own_image_T.tolist()})
    lines = [f"{file},{'day' if number % 2 else 'night'},{number}" for number, file in enumerate(files[:-1])]
    table.write_text("\n".join(["image,light,name", *lines]))
    groups = {(group.attribute, group.value): group.mask_T for group in groups_of(asked, table)}
    assert groups.keys() == {("light", "day"), ("light", "night"), ("image", "not in the table")}  # a name is none
    wanted = [files.index(asked.image_files[image]) for image in asked.own_image_T.tolist()]
    assert groups["light", "day"].tolist() == [at % 2 == 1 and at < len(files) - 1 for at in wanted]
    assert groups["image", "not in the table"].sum() == 2  # captions of an image


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "its first line must name the columns: image, then at least one attribute"),
        ("file,light\na,b\n", "its first line must name the columns: image, then at least one attribute"),
        ("image,light\nnowhere.png,day\n", "names none of the test images; they are called e.g. cam"),
    ],
)
def test_a_table_that_says_nothing_is_refused(benchmark, tmp_path, text, told):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ResourceError, match=told):
        groups_of(benchmark[1], tmp_path / "mine.csv")


class About:
    def __init__(self, seed):
        self.seed = seed


def side(name, *hits):
    """A row whose seeds have these queries right; two queries of each of twelve people."""
    identity = np.repeat(np.arange(12), 2)
    runs = {}
    for seed, right in enumerate(hits):
        ranks = np.where(np.isin(np.arange(24), right), 1, 3)
        runs[seed] = Run(None, About(seed), {"test": {}}, Queries(ranks, ranks / 3, identity))
    return Side(name, runs)


def test_rates_and_differences_by_hand(monkeypatch):
    a, b = side("a", range(6), range(6)), side("b", range(12), range(13))
    monkeypatch.setattr("reports.compare.read_config", lambda folder: BenchmarkParams())
    monkeypatch.setattr("reports.compare._others", lambda old, new: ())
    whole, few = np.ones(24, dtype=bool), np.arange(24) < 4
    groups = [Group("all", "of them", whole), Group("few", "people", few)]
    (only,) = reached(groups, [a, b], compare(a, b))  # a group of two people is left out
    assert (only.people, only.group.value) == (12, "of them")
    assert only.r1 == pytest.approx((25, 100 * 12.5 / 24)) and only.difference == pytest.approx(100 * 6.5 / 24)
    assert only.low < only.difference < only.high
    (alone,) = reached(groups, [a], None)
    assert alone.r1 == pytest.approx((25,)) and alone.difference is None


def test_the_command_on_a_folder_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = write_people(tmp_path / "people", train=6, val=3, test=12)
    suite = write_suite(tmp_path, 2)
    assert main(["run", str(suite), "-o", f"data.root={people}"]) == 0
    files = [record["file_path"] for record in json.loads((people / "reid_raw.json").read_text())]
    (tmp_path / "mine.csv").write_text("\n".join(["image,kind", *(f"{file},{file[-3:]}" for file in files)]))
    capsys.readouterr()
    assert main(["errors", "own/row-0", "own/row-1", "--attributes", "mine.csv", "--json"]) == 0
    found = {each["value"]: each for each in json.loads(capsys.readouterr().out)}
    assert found.keys() == {"jpg", "png"} and sum(each["queries"] for each in found.values()) == 12 * 3 * 2
    assert all(each["low"] <= each["difference"] <= each["high"] for each in found.values())
    assert main(["errors", "own/row-0", "--attributes", "mine.csv"]) == 0
    assert "| kind " in (text := capsys.readouterr().out) and "Difference" not in text
    assert main(["errors", "own/row-0"]) == 5
    assert "not the built-in benchmark, so nothing says what its captions tell" in capsys.readouterr().err
    assert main(["errors", "own"]) == 2
    assert "own is a suite; name one of its rows: row-0, row-1" in capsys.readouterr().err
