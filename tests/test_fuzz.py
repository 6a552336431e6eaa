"""Inputs of all kinds, damaged at random: each is read, or refused in one line. `make fuzz` tries many more.

A case begins with something valid, of which a part is replaced, removed or added, or some bytes are changed. What is
not an error of ours with one line that can be printed is a fault of this program: a traceback, a half-read file, a
character that must not reach a terminal.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.plan import recorded_runs, state_of
from experiments.rundir import About, MetricsLog, read_about, read_config, read_json, read_points, workspace_of
from experiments.spec import load_suite, resolve
from experiments.yaml_io import dump, load
from rasa.config.run import Config, Data
from rasa.data.annotated import caption_fault
from rasa.data.captions import clean_caption
from rasa.data.load import load_dataset
from rasa.data.tokenizer import train_tokenizer
from rasa.errors import RasaError
from rasa.weights.files import read_tensors
from rasa.weights.folder import load_checkpoint, newest_checkpoint, save_checkpoint
from tests.helpers.people import write_people

CASES = int(os.environ.get("FUZZ_CASES", "2400"))


def cases(share):
    """So many of all; always the same ones in CI, other ones whenever more are asked for."""
    return settings(
        max_examples=round(CASES * share),
        deadline=None,
        database=None,
        derandomize="FUZZ_CASES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )


def refused(read, *arguments):
    """What reading gives, or None if it is refused by one line that a terminal can show."""
    try:
        return read(*arguments)
    except RasaError as fault:
        text = str(fault)
        assert text.strip() and text.isprintable(), repr(text)
        return None


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "null",
            "1e-5",
            "nan",
            "..",
            "/etc/passwd",
            "a\0b",
            "\x1b[31m",
            "\u200b",
            "é",
            "e\u0301",
            "\ud800",
            "x" * 5000,
        ]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def damaged(draw, valid):
    """`valid` with one to three of its parts replaced, removed, repeated or joined by another."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        value = _damage(draw, value)
    return value


def _damage(draw, value):
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    key = draw(st.sampled_from(keys))
    what = draw(st.integers(0, 5))
    if what == 0:
        del value[key]
    elif what == 1 and isinstance(value, dict):
        value[draw(st.text(max_size=8))] = draw(VALUES)
    elif what == 1:
        value.append(value[key])
    else:
        value[key] = _damage(draw, value[key])
    return value


@st.composite
def bent(draw, content):
    """Bytes of which some are changed, cut off or put in."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.integers(0, 3))
        if what == 0:
            del data[at:]
        elif what == 1:
            data[at:at] = draw(st.binary(max_size=6))
        elif what == 2:
            del data[at : at + draw(st.integers(1, 40))]
        elif data:
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@contextmanager
def copy_of(folder):
    """A copy to damage, in memory where there is such a place."""
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=room) as place:
        yield Path(shutil.copytree(folder, Path(place) / "copy"))


@cache
def folder_of(kind):
    """Something valid of that kind, made once."""
    return MAKERS[kind](Path(tempfile.mkdtemp(prefix=f"fuzz-{kind}-")))


def make_people(folder):
    return write_people(folder / "people", train=2, val=1, test=1, images=1)


SUITE = {
    "suite": "mine",
    "title": "A title",
    "labels": ["A", "B"],
    "metrics": ["r1"],
    "profile": "smoke",
    "base": {"objectives": {"p_weak": 0.2}},
    "at": {"smoke": {"optimisation": {"epochs": 2}}},
    "expected_minutes": {"smoke": 1.0},
    "rows": [
        {
            "name": "one",
            "labels": ["a", "b"],
            "changes": {"objectives": {"weights": {"cl": 0.5}}},
            "paper": {"r1": 61.0},
        },
        {"name": "two", "extends": "table4/m-rtd", "versus": "one", "changes": {"optimisation": {"epochs": 3}}},
    ],
    "sweeps": [
        {
            "name": "p",
            "label": "p",
            "parameter": "objectives.p_weak",
            "extends": "table4/p-itm",
            "points": [0.1, {"value": 0.3, "changes": {"objectives": {"p_mask": 0.2}}}],
        }
    ],
}


@cases(0.08)
@given(spec=damaged(SUITE), as_yaml=st.booleans(), bytes_too=st.data())
def test_suite_files(spec, as_yaml, bytes_too):
    """Whatever is read resolves, row by row, or is refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mine.yaml"
        text = json.dumps(spec)
        if as_yaml:
            try:
                text = dump(spec)
            except Exception:  # noqa: BLE001  # of the writer; what only JSON can say is written as JSON
                as_yaml = False
        content = text.encode(errors="surrogatepass")
        file.write_bytes(bytes_too.draw(bent(content)) if bytes_too.draw(st.integers(0, 3)) == 0 else content)
        suite = refused(load_suite, str(file))
        for row in suite.rows[:3] if suite else ():
            refused(resolve, suite, row, "smoke", (), 0)


@cache
def table4():
    return load_suite("table4")


def _leaves(section, prefix=""):
    for name, value in section.items():
        yield from _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]


FIELDS = sorted(_leaves(resolve(table4(), "m-rtd", "smoke", (), 0).model_dump(mode="json")))
TYPED = st.one_of(
    st.text(max_size=15),
    st.sampled_from(
        [
            "1e-5",
            ".nan",
            "-.inf",
            "[1, 2]",
            "{a: 1}",
            "!!python/name:os.system",
            "*a",
            "&a [*a]",
            "'",
            "!!set {a, b}",
            "!!binary aGk=",
            "!!omap [a: 1]",
            "2001-01-01",
            "0x1F",
            "1_000",
            "",
            "~",
            "1e999",
            "🙂",
        ]
    ),
    LEAVES.map(lambda value: json.dumps(value, default=str)),
)


@cases(0.16)
@given(key=st.one_of(st.sampled_from(FIELDS), st.text(max_size=12)), value=TYPED, second=st.none() | TYPED)
def test_overrides(key, value, second):
    """A config that is built holds numbers only, and is read back from its own YAML."""
    texts = [f"{key}={value}", *([] if second is None else [f"optimisation.epochs={second}"])]
    config = refused(resolve, table4(), "m-rtd", "smoke", texts, 0)
    if config is not None:
        assert (
            Config.model_validate_json(json.dumps(load(dump(config.model_dump(mode="json")), "again")), strict=True)
            == config
        )


@cases(0.16)
@given(
    records=damaged(
        json.loads(
            (folder_of_people := make_people(Path(tempfile.mkdtemp(prefix="fuzz-"))))
            .joinpath("reid_raw.json")
            .read_text()
        )
    ),
    more=st.data(),
)
def test_annotation_files(records, more):
    """What is read is whole: every caption has its image, and each of the three splits somebody in it."""
    with copy_of(folder_of_people) as root:
        content = json.dumps(records).encode()
        if more.draw(st.integers(0, 4)) == 0:
            content = more.draw(bent(content))
        (root / "reid_raw.json").write_bytes(content)
        dataset = refused(load_dataset, Data(root=root))
        for split in dataset.splits.values() if dataset else ():
            assert len(split.captions) == len(split.caption_images) > 0
            assert all((dataset.image_root / file).is_file() for file in split.image_files)


TABLE = (
    "image,caption,split,identity\n"
    "imgs/cam0/0001_0.png,a man,train,1\n"
    "imgs/cam0/0003_0.png,a coat,val,3\n"
    "imgs/cam0/0004_0.png,a bag,test,4\n"
)


@cases(0.1)
@given(content=bent(TABLE.encode()), suffix=st.sampled_from(["csv", "jsonl"]))
def test_tables(content, suffix):
    with copy_of(folder_of_people) as root:
        (root / "reid_raw.json").unlink()
        (root / f"captions.{suffix}").write_bytes(content)
        refused(load_dataset, Data(root=root, format="table"))


TOKENIZER = train_tokenizer(["a man in a red shirt", "the woman wears black shoes, and a bag"], 60)


@cases(0.2)
@given(
    text=st.text(max_size=60) | LEAVES | st.text("\u200b\u200d\ufeff\u00ad \t,.'-/🙂ﬁ👩\u0301ß", max_size=8),
    max_words=st.integers(1, 50),
)
def test_captions(text, max_words):
    """A caption that is accepted has a word that a model can see; the same text is always the same tokens."""
    fault = caption_fault(text, max_words)
    if fault is not None:
        assert len(fault.splitlines()) == 1 and not [c for c in fault if ord(c) < 32]
        return
    cleaned = clean_caption(text, max_words)
    ids = TOKENIZER.encode([cleaned], 20).ids[0].tolist()
    assert 3 <= len(ids) <= 20 and ids[0] == TOKENIZER.cls_id and ids[-1] == TOKENIZER.sep_id
    assert TOKENIZER.encode([cleaned], 20).ids[0].tolist() == ids


ABOUT = {
    "run_id": "0123456789ab",
    "suite": "own",
    "row": "one",
    "profile": "smoke",
    "seed": 0,
    "title": "A",
    "order": 0,
    "labels": {"A": "b"},
    "paper": {"r1": 61.35},
    "versus": None,
    "row_digest": "0" * 12,
    "data_digest": "1" * 12,
    "weights_digest": "",
    "data_name": "synthetic",
    "data_root": "/data",
    "expected_minutes": 1.0,
    "identity": {"seed": 0},
}
RESULT = {
    "run_id": "0123456789ab",
    "test": {"r1": 50.0},
    "cost": {"seconds": 1.0, "steps": 4},
    "digests": {"code": "2"},
    "selected": {"epoch": 1, "step": 2, "val": {"r1": 3.0}},
    "sizes": {"test": {"images": 2}},
}
FILES = {
    "run.json": json.dumps(ABOUT),
    "result.json": json.dumps(RESULT),
    "failure.json": json.dumps({"type": "RunFailed", "message": "loss is nan", "traceback": "", "time": ""}),
    "environment.json": json.dumps({"code": {"rasa/training/step.py": "0"}, "started": "2026-01-01T00:00:00+00:00"}),
    "metrics.jsonl": "".join(
        json.dumps({"group": g, "step": s, "values": {"loss": 1.5}, "time": 1.0}) + "\n"
        for g, s in (("train", 0), ("train", 1), ("val", 2), ("test", 2))
    ),
    "checkpoints/step-000000002/state.json": json.dumps({"format": 1, "state": {"epoch": 0, "step_in_epoch": 2}}),
    "spec.yaml": dump(resolve(table4(), "cl", "smoke", (), 0).model_dump(mode="json")),
}
JSON_FILES = [name for name in FILES if name.endswith(".json")]


@cases(0.2)
@given(more=st.data())
def test_run_records(more):
    """One damaged file of one run: status, plan and resumption read the rest, and another run is not held up."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as place:
        directories = [Path(place) / "runs" / "own" / row / "smoke" / "seed-0-0123456789ab" for row in ("one", "two")]
        for directory in directories:
            directory.mkdir(parents=True)
            for name, text in FILES.items():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).write_text(text)
        hit, sound = directories
        name = more.draw(st.sampled_from(sorted(FILES)))
        if name in JSON_FILES and more.draw(st.booleans()):
            content = json.dumps(more.draw(damaged(json.loads(FILES[name])))).encode()
        else:
            content = more.draw(bent(FILES[name].encode()))
        (hit / name).write_bytes(content)
        if more.draw(st.booleans()):
            (hit / "result.json").unlink()
        about = refused(read_about, hit)
        assert about is None or isinstance(about, About)
        refused(read_config, hit)
        refused(state_of, hit)
        refused(read_json, hit / "result.json")
        refused(read_points, hit)
        refused(MetricsLog(hit).resume_from, 1)
        listed = refused(recorded_runs, workspace_of(hit))
        assert listed is not None and sound in [run.directory for run in listed]


def make_checkpoint(folder):
    tensors = {"model.a": torch.arange(6.0).reshape(2, 3), "queue.pointer": torch.tensor(3)}
    save_checkpoint(folder / "step-000000001", tensors, {"epoch": 0, "step_in_epoch": 1, "history": [{"r1": 1.0}]})
    save_checkpoint(folder / "step-000000002", tensors, {"epoch": 0, "step_in_epoch": 2, "history": [{"r1": 1.0}]})
    torch.save({"model": tensors}, folder / "weights.pth")
    shutil.copy(folder / "step-000000001" / "tensors.safetensors", folder / "weights.safetensors")
    return folder


MAKERS = {"people": make_people, "checkpoint": make_checkpoint}


@cases(0.1)
@given(more=st.data(), rehashed=st.booleans())
def test_checkpoint_headers(more, rehashed):
    """Ours, also with a hash that fits what was changed, and weights from outside. What loads is whole tensors."""
    with copy_of(folder_of("checkpoint")) as folder:
        newest = folder / "step-000000002"
        file = more.draw(st.sampled_from(["state.json", "tensors.safetensors", "weights.pth", "weights.safetensors"]))
        path = folder / file if file.startswith("weights") else newest / file
        whole = path.read_bytes()
        if file == "state.json" and more.draw(st.booleans()):
            path.write_text(json.dumps(more.draw(damaged(json.loads(whole)))))
        else:
            path.write_bytes(more.draw(bent(whole[:400])) + whole[400:])
        if rehashed and not file.startswith("weights"):
            rehash(newest)
        if file.startswith("weights"):
            found = refused(read_tensors, path)
            assert found is None or all(isinstance(value, torch.Tensor) for value in found.values())
            return
        loaded = refused(load_checkpoint, newest)
        tensors, state, problems = refused(newest_checkpoint, folder)
        assert tensors and isinstance(state, dict)
        assert bool(problems) == (loaded is None)


def rehash(folder):
    """Let the record's hashes fit its content, where it still is a record."""
    try:
        body = json.loads((folder / "state.json").read_bytes())
        body.pop("sha256", None)
        body["tensors_sha256"] = hashlib.sha256((folder / "tensors.safetensors").read_bytes()).hexdigest()
        body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        (folder / "state.json").write_text(json.dumps(body))
    except (ValueError, AttributeError, TypeError):
        return


def test_the_cases_are_as_many_as_promised():
    """The shares of this file add up to all, and CI's number is 2,000 at the least."""
    shares = [0.08, 0.16, 0.16, 0.1, 0.2, 0.2, 0.1]
    assert sum(shares) == pytest.approx(1.0)
    text = Path(__file__).read_text()
    assert sorted(f"@cases({share})" for share in shares) == sorted(
        line for line in text.splitlines() if line.startswith("@cases(")
    )
    assert CASES >= 2000 or "FUZZ_CASES" in os.environ
