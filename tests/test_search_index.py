"""An index of a folder: what is encoded when, what is left out, whose it is, and what a killed one leaves."""

import json
import os
import shutil

import pytest
import torch

from rasa.data.transforms import decode
from rasa.errors import ResourceError
from rasa.evaluation.rank import encode_images, retrieval_mode
from rasa.search import index as indexing
from rasa.search.encoder import state_digest
from rasa.search.folder import list_images, read_image
from rasa.search.index import index_folder, read_index, update_index
from tests.helpers.galleries import HOSTILE_NAME, encoder, write_gallery


@pytest.fixture
def root(tmp_path):
    return write_gallery(tmp_path)


def encoded(own, root, file):
    with torch.inference_mode(), retrieval_mode(own.model, own.device):
        tokens = encode_images(own.model, decode(root / file, own.config.data.image_size)[None], "float32", own.device)
        return own.model.encoders.image_feature(tokens)[0], tokens[0]


def test_every_image_has_its_own_features_and_tokens(root):
    own = encoder(root, batch_size=2)
    index, changes = update_index(root, own)
    assert (changes.encoded, changes.kept, changes.removed) == (6, 0, 0) and len(index.files) == 6
    assert HOSTILE_NAME in index.files and list(index.files) == sorted(index.files)
    for row, file in enumerate(index.files):
        feature, tokens = encoded(own, root, file)
        torch.testing.assert_close(index.features_NE[row], feature)
        torch.testing.assert_close(index.tokens_NMD[row], tokens)
    kept = read_index(root)
    assert kept.files == index.files and kept.digests == index.digests and kept.complete
    assert torch.equal(kept.features_NE, index.features_NE) and torch.equal(kept.tokens_NMD, index.tokens_NMD)


def test_only_what_is_new_or_changed_is_encoded(root):
    own = encoder(root)
    before, _ = update_index(root, own)
    same, changes = update_index(root, own)
    assert tuple(changes) == (0, 6, 0) and same.files == before.files
    (root / "day 1" / "1.png").rename(root / "a moved one.jpg")  # first in order now, and known by its content
    shutil.copy(root / "day 0" / "2.png", root / "day 0" / "copy.png")
    (root / "day 1" / "3.jpg").unlink()
    shutil.copy(root / "day 0" / "4.jpg", root / "day 1" / "5.jpg")  # changed into a content that is known
    other = root / HOSTILE_NAME
    decode_new = (root / "day 0" / "4.jpg").read_bytes() + b"something behind the image"
    other.write_bytes(decode_new)
    after, changes = update_index(root, own)
    assert changes.encoded == 1 and changes.removed == 3
    assert set(after.files) == set(list_images(root)[0]) and "day 1/3.jpg" not in after.files
    for row, file in enumerate(after.files):
        feature, tokens = encoded(own, root, file)
        torch.testing.assert_close(after.features_NE[row], feature)
        torch.testing.assert_close(after.tokens_NMD[row], tokens)


def test_nothing_unchanged_is_decoded_again(root, monkeypatch):
    own = encoder(root)
    update_index(root, own)
    decoded = []
    monkeypatch.setattr(indexing, "decode", lambda path, *rest: decoded.append(path.name) or decode(path, *rest))
    file = root / "day 0" / "2.png"
    file.write_bytes(file.read_bytes() + b"more")
    os.utime(root / "day 1" / "1.png")  # a new time is no new content
    update_index(root, own)
    assert decoded == ["2.png"]
    update_index(root, own, anew=True)
    assert len(decoded) == 7


def test_what_is_hashed_is_what_is_decoded(root, monkeypatch):
    """A file that is exchanged between the two: the index has the encoding of the content that it names."""
    own = encoder(root)
    before, _ = update_index(root, own)
    file, other = root / "day 0" / "2.png", (root / "day 0" / "4.jpg").read_bytes()
    own_content = file.read_bytes()

    def exchange(content):
        if content == own_content:
            file.write_bytes(other)
        return digest_of(content)

    digest_of = indexing.digest_of
    monkeypatch.setattr(indexing, "digest_of", exchange)
    after, _ = update_index(root, own, anew=True)
    row = after.files.index("day 0/2.png")
    assert after.digests[row] == before.digests[row] and file.read_bytes() == other
    torch.testing.assert_close(after.features_NE[row], before.features_NE[row])


def test_images_are_read_ahead_in_order_and_not_all_at_once(monkeypatch):
    """Parts of 2 paths, 3 of them ahead: when the first is given, parts 0 to 2 are asked for, so 6 paths at most."""
    monkeypatch.setattr(indexing, "PART", 2)
    monkeypatch.setattr(indexing, "AHEAD", 3)
    asked, paths = [], [str(number) for number in range(11)]

    def read(path):
        asked.append(path)
        return path, None, None, None

    reading = indexing._read_ahead(read, paths)
    assert next(reading)[0] == "0" and set(asked) <= set(paths[:6])
    assert [found[0] for found in reading] == paths[1:] and sorted(asked, key=int) == paths


def test_another_models_index_is_refused_with_the_remedy(root):
    update_index(root, encoder(root))
    with pytest.raises(ResourceError, match=r"was indexed with .*weights_sha256.*index with --anew"):
        update_index(root, encoder(root, seed=1))
    with pytest.raises(ResourceError, match="reranks"):
        update_index(root, encoder(root, reranks=False))
    _, changes = update_index(root, encoder(root, seed=1), anew=True)
    assert changes.encoded == 6


def test_an_image_size_or_a_vocabulary_of_another_kind_is_another_index(root):
    own = encoder(root)
    update_index(root, own)
    data = own.config.data.model_copy(update={"image_size": (16, 16)})
    with pytest.raises(ResourceError, match="image_size"):
        update_index(root, own._replace(config=own.config.model_copy(update={"data": data})))


def test_damaged_images_are_left_out_and_told(root):
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff not an image")
    (root / "empty.png").write_bytes(b"")
    told = []
    index, _ = update_index(root, encoder(root), notify=told.append)
    assert len(index.files) == 6
    assert told == [
        "left out: broken.jpg: truncated; replace or remove it",
        "left out: empty.png: zero-byte; replace or remove it",
    ]


def test_links_that_lead_out_are_not_followed(root, tmp_path):
    secret = tmp_path / "secret.png"
    shutil.copy(root / "day 0" / "2.png", secret)
    (root / "link.png").symlink_to(secret)
    (root / "elsewhere").symlink_to(tmp_path / "people", target_is_directory=True)
    paths, notes = list_images(root)
    assert "link.png" not in paths and not any("elsewhere" in path for path in paths)
    assert notes == ["link.png: leads out of the folder; copy the image into it"]


def test_an_image_is_read_again_only_as_it_was_indexed(root, tmp_path):
    index, _ = update_index(root, encoder(root))
    file, digest = index.files[1], index.digests[1]
    assert read_image(root, file, digest) == (root / file).read_bytes()
    for path in ("../people/reid_raw.json", "/etc/passwd", "day 0/../../people/reid_raw.json"):
        with pytest.raises(ResourceError, match="leads out of the folder"):
            read_image(root, path, digest)
    secret = tmp_path / "secret.png"
    shutil.copy(root / file, secret)
    (root / file).unlink()
    (root / file).symlink_to(secret)  # the right content, but elsewhere
    with pytest.raises(ResourceError, match="leads out of the folder"):
        read_image(root, file, digest)
    (root / file).unlink()
    with pytest.raises(ResourceError, match="cannot be read any more"):
        read_image(root, file, digest)
    (root / file).write_bytes(b"another")
    with pytest.raises(ResourceError, match="has changed since it was indexed"):
        read_image(root, file, digest)


def test_an_interrupted_index_goes_on(root):
    own, seen = encoder(root, batch_size=2), []

    def interrupt(done, total):
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(root, own, on_progress=interrupt)
    left = read_index(root)
    assert not left.complete and len(left.files) == 4
    index, changes = update_index(root, own)
    assert index.complete and changes.encoded == 2 and changes.kept == 4


def test_an_interrupted_update_loses_nothing_that_was_there(root):
    own = encoder(root, batch_size=1)
    before, _ = update_index(root, own)
    (root / "0 new.png").write_bytes((root / "day 0" / "2.png").read_bytes() + b"more")

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(root, own, on_progress=interrupt)
    left = read_index(root)
    assert set(before.files) < set(left.files) and not left.complete


def test_a_flipped_byte_is_noticed(root):
    update_index(root, encoder(root))
    file = index_folder(root) / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ResourceError, match="damaged checkpoint"):
        read_index(root)


def test_the_record_names_what_the_index_was_made_with(root):
    own = encoder(root)
    update_index(root, own)
    record = json.loads((index_folder(root) / "state.json").read_text())["state"]
    assert record["identity"] == own.identity()
    assert record["identity"]["weights_sha256"] == "weights of seed 0"
    assert record["identity"]["image_size"] == [32, 16] and record["identity"]["tokenizer"] == own.tokenizer.digest


def test_weights_are_named_by_their_values():
    one = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    assert state_digest(one) == state_digest(dict(reversed(one.items())))
    assert state_digest(one) != state_digest(one | {"b": torch.ones(4)})
    assert state_digest(one) != state_digest(one | {"a": torch.arange(4.0).flip(0)})


@pytest.mark.parametrize("make, text", [(False, "does not exist"), (True, "holds no images")])
def test_a_folder_without_images_is_one_line(tmp_path, make, text):
    own = encoder(tmp_path)
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(ResourceError, match=text):
        update_index(tmp_path / "empty", own)
    assert not (tmp_path / "empty" / ".rasa").exists()


def test_a_second_process_is_told_to_wait(root):
    from rasa.lock import Lock

    (root / ".rasa").mkdir()
    with Lock(root / ".rasa" / "index.lock"), pytest.raises(ResourceError, match="indexed by another process"):
        update_index(root, encoder(root))
