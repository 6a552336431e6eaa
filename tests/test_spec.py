"""Specs: every file of the package resolves, layers win in order, and each fault names the file and the field."""

from pathlib import Path

import pytest

from experiments.spec import identity_of, load_profile, load_suite, profile_names, resolve, row_digest, suite_names
from experiments.targets import parse_target
from experiments.yaml_io import dump, load_mapping
from rasa.config.formats import FORMATS
from rasa.errors import SpecError

ROWS = [(suite, row.name) for suite in suite_names() for row in load_suite(suite).rows]
PAPER = ("data.root=/data/CUHK-PEDES",)


def given(profile, suite="table4"):
    """What a user has to give for a profile to resolve."""
    target = ("data.target.root=/data/ICFG-PEDES",) if suite == "table7" else ()
    return PAPER + target if profile == "paper" else ()


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize(("suite", "row"), ROWS)
def test_every_row_resolves_at_every_profile(suite, row, profile):
    config = resolve(load_suite(suite), row, profile, given(profile, suite), 3)
    assert config.seed == 3
    assert load_profile(profile).profile == profile


@pytest.mark.parametrize("profile", profile_names())
def test_rows_of_table4_are_ten_different_configs(profile):
    suite = load_suite("table4")
    digests = {row_digest(resolve(suite, row, profile, given(profile), 0)) for row in suite.rows}
    assert len(suite.rows) == len(digests) == 10


def test_table4_says_what_the_paper_says():
    suite = load_suite("table4")
    assert [" ".join(suite.labels_of(row).values()) for row in suite.rows] == [
        "CL ITC + IMC",
        "+RA ITM",
        "+RA s-ITM",
        "+RA p-ITM",
        "+RA ITM + PRD",
        "+RA p-ITM + PRD",
        "++SA MLM",
        "++SA MLM + f-RTD",
        "++SA MLM + o-RTD",
        "++SA MLM + m-RTD",
    ]
    assert [row.paper["r1"] for row in suite.rows] == [
        61.35,
        71.29,
        73.52,
        72.58,
        73.03,
        74.20,
        74.81,
        75.13,
        75.99,
        76.51,
    ]
    assert [row.versus for row in suite.rows] == [
        None,
        "cl",
        "itm",
        "itm",
        "itm",
        "p-itm",
        "p-itm-prd",
        "mlm",
        "f-rtd",
        "o-rtd",
    ]


LAMBDAS = {"cl": 0.5, "itm": 1.0, "prd": 0.5, "mlm": 1.0, "rtd": 0.5}


@pytest.mark.parametrize(
    ("row", "losses", "positives", "generator"),
    [
        ("cl", "cl", "annotated", None),
        ("itm", "cl itm", "uniform", None),
        ("s-itm", "cl itm", "annotated", None),
        ("p-itm", "cl itm", "probabilistic", None),
        ("itm-prd", "cl itm prd", "uniform", None),
        ("p-itm-prd", "cl itm prd", "probabilistic", None),
        ("mlm", "cl itm prd mlm", "probabilistic", None),
        ("f-rtd", "cl itm prd mlm rtd", "probabilistic", "fixed"),
        ("o-rtd", "cl itm prd mlm rtd", "probabilistic", "online"),
        ("m-rtd", "cl itm prd mlm rtd", "probabilistic", "momentum"),
    ],
)
def test_what_a_row_of_table4_learns(row, losses, positives, generator):
    objectives = resolve(load_suite("table4"), row, "smoke", (), 0).objectives
    assert objectives.weights == {name: LAMBDAS[name] for name in losses.split()}
    assert (objectives.positives, objectives.generator) == (positives, generator)
    assert (objectives.p_weak, objectives.p_mask) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("name", "format", "albef", "rasa"),
    [
        ("table1", "cuhk-pedes", 60.28, 76.51),
        ("table2", "icfg-pedes", 34.46, 65.28),
        ("table3", "rstpreid", 50.10, 66.90),
    ],
)
def test_tables_1_to_3_are_the_backbone_and_rasa_on_three_data_sets(name, format, albef, rasa):
    suite = load_suite(name)
    assert [(row.name, row.versus, row.paper["r1"]) for row in suite.rows] == [
        ("albef", None, albef),
        ("rasa", "albef", rasa),
    ]
    backbone, ours = (resolve(suite, row, "paper", PAPER, 0) for row in suite.rows)
    assert backbone.objectives.weights == {"itc": 1.0, "itm": 1.0}  # without RA and SA, and without IMC
    assert (backbone.objectives.positives, backbone.objectives.generator) == ("annotated", None)
    assert backbone.fidelity.contrastive_positives == "own" and ours.fidelity.contrastive_positives == "identity"
    assert backbone.data.format == ours.data.format == format
    best = resolve(load_suite("table4"), "m-rtd", "paper", PAPER, 0)
    assert ours.model_copy(update={"data": best.data}) == best
    assert ours.data.model_copy(update={"format": "cuhk-pedes"}) == best.data
    for profile in ("smoke", "synth"):  # the built-in benchmark is written in one layout
        assert resolve(suite, "rasa", profile, (), 0) == resolve(load_suite("table4"), "m-rtd", profile, (), 0)


A2 = {"epochs": 30, "batch_size": 52, "learning_rate": 1e-5, "head_learning_rate": 1e-4}


@pytest.mark.parametrize("row", load_suite("table5").rows, ids=lambda row: row.name)
def test_table5_is_sa_with_plain_matching_on_two_data_sets(row):
    """A.3: every image is a class, so no RA; the backbone learns ITC and ITM, an image's captions all its positives."""
    config = resolve(load_suite("table5"), row, "paper", PAPER, 0)
    format = FORMATS[config.data.format]
    assert row.name.endswith(config.data.format) and format.own_classes and format.protocol == "both-ways"
    assert config.objectives.positives == "annotated" and config.fidelity.contrastive_positives == "identity"
    ours = row.name.startswith("rasa")
    assert config.objectives.weights == ({"cl": 0.5, "itm": 1, "mlm": 1, "rtd": 0.5} if ours else {"itc": 1, "itm": 1})
    assert (config.objectives.generator, row.versus) == (
        ("momentum", f"albef-{config.data.format}") if ours else (None, None)
    )
    assert config.optimisation.model_dump().items() >= A2.items() and config.data.image_size == (384, 384)
    assert config.fidelity.preset == "released" and config.data.max_tokens == 50


@pytest.mark.parametrize("row", load_suite("table6").rows, ids=lambda row: row.name)
def test_table6_is_the_last_row_of_table4_with_crops_and_thirty_words(row):
    config = resolve(load_suite("table6"), row, "paper", PAPER, 0)
    best = resolve(load_suite("table4"), "m-rtd", "paper", PAPER, 0)
    format = FORMATS[config.data.format]
    assert row.name == f"rasa-{config.data.format}" and format.crops and format.protocol == "classes"
    assert (config.data.max_words, config.data.max_tokens) == (30, 30)
    assert config.model_copy(update={"data": best.data}) == best


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("row", load_suite("table8").rows, ids=lambda row: row.name)
def test_table8_is_on_the_backbone_that_it_names(row, profile):
    """And on nothing else that differs; CLIP with one block, and at no profile from the start that ships, an ALBEF."""
    config = resolve(load_suite("table8"), row, profile, given(profile), 0)
    clip, ours = row.name.endswith("clip"), row.name.startswith("rasa")
    assert config.model.backbone == ("clip" if clip else "tcl")
    assert config.model.fusion_layers == 1 or not clip
    best = resolve(load_suite("table4"), "m-rtd", profile, given(profile), 0)
    assert config.model.weights == (None if clip else best.model.weights)
    if ours:
        assert config.objectives == best.objectives and config.optimisation == best.optimisation
    else:
        assert config.objectives.weights == ({"itc": 1} if clip else {"itc": 1, "itm": 1})
    if not clip:
        assert config.model.model_copy(update={"backbone": "albef"}) == best.model
    elif profile == "paper":  # CLIP ViT-B/16's sizes
        sizes = config.model
        assert (sizes.text_width, sizes.text_layers, sizes.text_heads, sizes.text_mlp_width) == (512, 12, 8, 2048)
        assert (sizes.vision_width, sizes.vision_depth, sizes.patch_size) == (768, 12, 16)
        assert (sizes.embed_dim, sizes.max_positions) == (512, 77)
        assert config.data.tokenizer == "openai/clip-vit-base-patch16"


def test_the_paper_profile_is_appendix_a2_in_the_released_reading():
    config = resolve(load_suite("table4"), "m-rtd", "paper", PAPER, 0)
    optimisation = config.optimisation
    assert (optimisation.epochs, optimisation.batch_size) == (30, 52)
    assert (optimisation.learning_rate, optimisation.head_learning_rate) == (1e-5, 1e-4)
    assert config.fidelity.preset == "released"
    assert config.data.image_size == (384, 384)


def test_an_override_changes_one_loss_and_a_mapping_replaces_all():
    suite = load_suite("table4")
    one = resolve(suite, "m-rtd", "smoke", ["objectives.weights.cl=0.3"], 0).objectives.weights
    assert one == LAMBDAS | {"cl": 0.3}
    every = resolve(suite, "p-itm", "smoke", ["objectives.weights={cl: 1, itm: 2}"], 0).objectives.weights
    assert every == {"cl": 1.0, "itm": 2.0}


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("optimisation.learning_rate=1e-5", "optimisation", "learning_rate", 1e-5),
        ("optimisation.max_steps_per_epoch=null", "optimisation", "max_steps_per_epoch", None),
        ("data.image_size=[64, 32]", "data", "image_size", (64, 32)),
        ("fidelity=released", "fidelity", "mlm_soft_axis", "sequence"),
        ("fidelity.rtd_choice=argmax", "fidelity", "rtd_choice", "argmax"),
    ],
)
def test_override_values_are_yaml(override, section, field, value):
    config = resolve(load_suite("table4"), "m-rtd", "smoke", [override], 0)
    assert getattr(getattr(config, section), field) == value


BAD_OVERRIDES = [
    ("optimisation.epoch=3", "-o: optimisation.epoch: unknown key; did you mean optimisation.epochs?"),
    ("epochs=3", "-o: epochs: unknown key; did you mean optimisation.epochs?"),
    ("model.learning_rate=3", "-o: model.learning_rate: unknown key; did you mean optimisation.learning_rate?"),
    ("objectives.weights.mlmm=1", "unknown key; did you mean objectives.weights.mlm?"),
    ("data.synthetic.train_identites=3", "did you mean data.synthetic.train_identities?"),
    ("colour=red", "-o: colour: unknown key; the top level has seed, data, model"),
    ("optimisation.epochs=three", '-o: optimisation.epochs: input should be a valid integer ("three")'),
    ("optimisation.epochs='3'", '-o: optimisation.epochs: input should be a valid integer ("3")'),
    ("optimisation.epochs=true", "-o: optimisation.epochs: input should be a valid integer (true)"),
    ("optimisation.epochs=-1", "-o: optimisation.epochs: input should be greater than or equal to 1 (-1)"),
    ("optimisation.learning_rate=.nan", "-o: optimisation.learning_rate: input should be a finite number (NaN)"),
    ("objectives.weights.cl=.inf", "-o: objectives.weights.cl: input should be a finite number (Infinity)"),
    ("objectives.weights.cl=-1", "-o: objectives: weights.cl is -1.0; leave the loss out"),
    ("objectives.positives=annotated", "-o: objectives: weights.prd needs positives of both kinds"),
    ("objectives.generator=null", "-o: objectives: weights.rtd needs a generator; set generator"),
    ("data.image_size=[90, 48]", "-o: data.image_size: height 90 is not a multiple of model.patch_size 16"),
    ("fidelity=papr", "-o: fidelity.preset: input should be 'released' or 'paper' (\"papr\")"),
    ("seed=3", "-o: seed: a row has no seed of its own; give --seeds"),
    ("optimisation.epochs", "-o optimisation.epochs: write key=value"),
    ("optimisation.epochs=!!python/object:os.system ls", "YAML does not read '!' as text"),
]


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES)
def test_a_bad_override_names_the_field_and_the_remedy(override, message):
    with pytest.raises(SpecError) as caught:
        resolve(load_suite("table4"), "m-rtd", "smoke", [override], 0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_data_folder_is_asked_for_without_blaming_a_file():
    with pytest.raises(SpecError, match="^data.root is not set; give the data set's folder, e.g. -o data.root=DIR$"):
        resolve(load_suite("table4"), "cl", "paper", (), 0)


MINE = """
suite: mine
profile: smoke
base: {optimisation: {epochs: 1}}
rows:
- name: more-noise
  extends: table4/m-rtd
  changes: {objectives: {p_weak: 0.3}}
- name: without-mlm
  extends: table4/m-rtd
  changes: {objectives: {weights: {cl: 0.5, itm: 1, prd: 0.5, rtd: 0.5}}}
"""


def written(folder: Path, text: str, name: str = "my.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_users_file_extends_a_row_in_ten_lines(tmp_path):
    suite, rows = parse_target(written(tmp_path, MINE))
    assert [row.name for row in rows] == ["more-noise", "without-mlm"]
    noise, without = (resolve(suite, row, suite.profile, (), 0) for row in rows)
    assert (noise.objectives.p_weak, noise.objectives.generator, noise.optimisation.epochs) == (0.3, "momentum", 1)
    assert noise.objectives.weights == LAMBDAS
    assert "mlm" not in without.objectives.weights
    assert suite.labels_of(rows[0]) == {"Row": "more-noise"}


def test_a_row_that_extends_one_of_its_own_suite_keeps_that_rows_changes(tmp_path):
    text = """
    suite: mine
    base: {optimisation: {epochs: 5}, objectives: {weights: {cl: 1}}}
    rows:
    - {name: long, changes: {optimisation: {epochs: 9}}}
    - {name: long-itm, extends: mine/long, changes: {objectives: {weights: {cl: 1, itm: 1}}}}
    """
    suite, rows = parse_target(written(tmp_path, text))
    config = resolve(suite, rows[1], "smoke", (), 0)
    assert (config.optimisation.epochs, config.objectives.weights) == (9, {"cl": 1.0, "itm": 1.0})


def test_what_is_set_at_a_profile_is_set_there_alone(tmp_path):
    """Each layer's own comes right after it: the base's before the row's changes, the row's before an override."""
    text = """
    suite: mine
    base: {objectives: {weights: {cl: 1}}, optimisation: {epochs: 2, batch_size: 8}}
    at: {smoke: {optimisation: {epochs: 3}}, synth: {optimisation: {epochs: 4, batch_size: 12}}}
    rows:
    - {name: plain}
    - {name: own, changes: {optimisation: {epochs: 5}}, at: {synth: {optimisation: {epochs: 6}}}}
    - {name: on, extends: mine/own}
    - {name: last, extends: mine/own, changes: {optimisation: {epochs: 7}}, at: {paper: {data: {image_size: [64, 64]}}}}
    """
    file = written(tmp_path, text)
    suite, _ = parse_target(file)

    def found(row, profile, *overrides):
        optimisation = resolve(suite, row, profile, [*given(profile), *overrides], 0).optimisation
        return optimisation.epochs, optimisation.batch_size

    assert [found("plain", name) for name in ("smoke", "synth", "paper")] == [(3, 8), (4, 12), (2, 8)]
    assert [found("own", name) for name in ("smoke", "synth", "paper")] == [(5, 8), (6, 12), (5, 8)]
    assert [found("on", name) for name in ("smoke", "synth")] == [(5, 8), (6, 12)]
    assert [found("last", name) for name in ("smoke", "synth")] == [(7, 8), (7, 12)]
    assert found("own", "synth", "optimisation.epochs=9") == (9, 12)
    assert resolve(suite, "last", "paper", PAPER, 0).data.image_size == (64, 64)
    assert resolve(suite, "own", "paper", PAPER, 0).data.image_size == (384, 384)
    other = f"suite: other\nat: {{synth: {{optimisation: {{epochs: 8}}}}}}\nrows: [{{name: r, extends: {file}/own}}]\n"
    assert resolve(load_suite(written(tmp_path, other, "other.yaml")), "r", "synth", (), 0).optimisation.epochs == 8


def test_one_row_of_a_users_file(tmp_path):
    target = written(tmp_path, MINE)
    assert [row.name for row in parse_target(f"{target}/without-mlm")[1]] == ["without-mlm"]


BAD_FILES = [
    ("suite: a\nsuite: b\nrows: [{name: r}]", 'my.yaml:2: found duplicate key "suite"'),
    ("suite: !!python/name:os.system\nrows: []", "my.yaml:1: could not determine a constructor for the tag"),
    ("- a", "my.yaml: a mapping of keys to values is expected at the top, found a list"),
    ("", "my.yaml: a mapping of keys to values is expected at the top, found nothing"),
    ("suite: [", "my.yaml:1: expected the node content"),
    ("1: 2", "my.yaml:1: a key must be text"),
    ("suite: &a x\nrows: *a", "my.yaml:2: an alias (*) is not supported"),
    ("suite: a\nrow: [{name: r}]", "my.yaml: row: unknown key; did you mean rows?"),
    ("suite: a\nrows: []", "my.yaml: rows: a suite needs at least one row, or a sweep"),
    ("suite: a/b\nrows: [{name: r}]", "my.yaml: suite: string should match pattern"),
    ("suite: a\nrows: [{name: r, chnages: {}}]", "my.yaml: rows.0.chnages: unknown key; did you mean rows.changes?"),
    ("suite: a\nrows: [{name: r}, {name: r}]", "my.yaml: rows: the name r is given twice"),
    ("suite: a\nrows: [{name: r}, {name: s, versus: t}]", "rows.s.versus: no other row t; there is r"),
    ("suite: a\nlabels: [A, B]\nrows: [{name: r, labels: [x]}]", "rows.r.labels has 1 cells, labels 2"),
    ("suite: a\npublished: tabel1\nrows: [{name: r}]", "my.yaml: published: input should be 'table1', 'table2'"),
    ("suite: a\nat: {paper: 3}\nrows: [{name: r}]", "my.yaml: at.paper: input should be an object"),
    ("suite: a\nrows: [{name: r, paper: {r2: 1}}]", "my.yaml: rows.0.paper.r2: unknown key"),
    ("suite: a\nrows: [{name: r, paper: {r1: .nan}}]", "rows.0.paper.r1: input should be a finite number"),
    ("suite: table4\nrows: [{name: r}]", "my.yaml: suite: table4 is a built-in suite; give yours another name"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_file_is_refused_with_its_name(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_suite("my.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_ROWS = [
    ("{name: r, changes: {optimisation: {epoch: 1}}}", "my.yaml, row r: optimisation.epoch: unknown key"),
    ("{name: r, changes: {objectives: {weights: {cl: x}}}}", "my.yaml, row r: objectives.weights.cl: input should"),
    ("{name: r}", "my.yaml, row r: objectives: field required"),
    ("{name: r, at: {smoke: {optimisation: {epoch: 1}}}}", "my.yaml, row r, at.smoke: optimisation.epoch: unknown key"),
    ("{name: r, changes: {seed: 1}}", "my.yaml, row r: seed: a row has no seed of its own"),
    ("{name: r, extends: table4}", "my.yaml, row r: extends: write suite/row (table4)"),
    ("{name: r, extends: table4/mrtd}", "table4.yaml: no row 'mrtd'; did you mean m-rtd"),
    ("{name: r, extends: tabel4/mlm}", "no suite 'tabel4' (a file ends in .yaml); did you mean table4?"),
    (
        "{name: r, extends: mine/s}\n- {name: s, extends: mine/r}",
        "extends goes in a circle: mine/r -> mine/s -> mine/r",
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_name(tmp_path, monkeypatch, row, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, f"suite: mine\nrows:\n- {row}\n")
    with pytest.raises(SpecError) as caught:
        resolve(load_suite("my.yaml"), "r", "smoke", (), 0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_target("tabel4"), "no suite 'tabel4' (a file ends in .yaml); did you mean table4?"),
        (lambda: parse_target("tabel4/cl"), "did you mean table4?"),
        (lambda: parse_target("table4/m-rdt"), "table4.yaml: no row 'm-rdt'; did you mean m-rtd"),
        (lambda: parse_target("table4/"), "table4.yaml: no row ''; there is cl, itm, s-itm"),
        (lambda: parse_target("missing.yaml"), "missing.yaml: cannot be read (No such file or directory)"),
        (lambda: load_profile("smok"), "no profile 'smok' (a file ends in .yaml); did you mean smoke?"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(call, message):
    with pytest.raises(SpecError) as caught:
        call()
    assert message in str(caught.value)


def test_a_profile_of_the_users_own(tmp_path):
    path = written(tmp_path, "profile: tiny\nconfig: {data: {synthetic: {train_identities: 9}}}", "tiny.yaml")
    config = resolve(load_suite("table4"), "cl", path, (), 0)
    assert config.data.synthetic.train_identities == 9


def test_the_row_digest_is_the_rows_and_not_the_seeds_or_the_machines():
    suite = load_suite("table4")
    base = row_digest(resolve(suite, "itm", "smoke", (), 0))
    assert base == row_digest(resolve(suite, "itm", "smoke", ["optimisation.threads=1", "data.root=/elsewhere"], 7))
    assert base != row_digest(resolve(suite, "itm", "smoke", ["optimisation.epochs=3"], 0))
    assert len(base) == 12


def test_a_local_vocabulary_or_generator_is_known_by_its_content(tmp_path):
    def digest(override):
        return row_digest(resolve(load_suite("table4"), "f-rtd", "smoke", [override], 0))

    for name, text in (("a.txt", "one"), ("b.txt", "one"), ("c.txt", "two")):
        (tmp_path / name).write_text(text)
        (tmp_path / f"folder-{name}").mkdir()
        (tmp_path / f"folder-{name}" / "vocab.txt").write_text(text)
    for override in (f"data.tokenizer={tmp_path}/", f"objectives.masked_lm={tmp_path}/folder-"):
        a, b, c = (digest(override + name) for name in ("a.txt", "b.txt", "c.txt"))
        assert a == b != c
    (tmp_path / "folder-b.txt" / "config.json").touch()
    assert digest(f"objectives.masked_lm={tmp_path}/folder-b.txt") != a
    identity = identity_of(resolve(load_suite("table4"), "f-rtd", "paper", PAPER, 0))
    assert identity["data"]["tokenizer"] == "bert-base-uncased"
    assert identity["objectives"]["masked_lm"] == "distilbert-base-uncased"


def test_what_show_prints_is_read_back_as_the_same_config():
    config = resolve(load_suite("table4"), "m-rtd", "paper", PAPER, 0).model_dump(mode="json")
    text = dump(config)
    assert load_mapping(text, "shown") == config
    assert "learning_rate: 1.0e-05" in text  # plain PyYAML would read 1e-05 as text
    assert "image_size: [384, 384]" in text


@pytest.mark.parametrize("profile", ["smoke", "synth", "bench"])
@pytest.mark.parametrize("name", suite_names())
def test_every_built_in_row_resolves_without_a_users_data(name, profile):
    suite = load_suite(name)
    configs = [resolve(suite, row, profile, (), 0) for row in suite.rows]
    assert all(config.data.synthetic is not None for config in configs)
    assert len({config.model_dump_json() for config in configs}) >= len(configs) - 4  # sweeps share their middle


def test_the_sensitivity_suite_is_table4_and_at_synth_costs_nothing_more():
    """Its runs at `synth` are those of Table 4, so that they are copied."""
    table4, probed = load_suite("table4"), load_suite("sensitivity")
    assert [row.name for row in table4.rows] == [row.name for row in probed.rows]
    for row in table4.rows:
        assert resolve(table4, row, "synth", (), 0) == resolve(probed, row.name, "synth", (), 0)
        assert resolve(probed, row.name, "smoke", (), 0).evaluation.sensitivity == 600
        assert probed.labels_of(probed.row(row.name)) == table4.labels_of(row)
        assert probed.row(row.name).versus == row.versus
