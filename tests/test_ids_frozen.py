"""A run that was finished yesterday is found today: no named row's digest has moved since it was kept."""

import json

from tests.freeze_ids import FILE, digests


def test_no_rows_digest_has_moved():
    kept, now = json.loads(FILE.read_text()), digests()
    assert len(kept) >= 81 and all(len(values) >= 5 for values in kept.values())
    moved = {name: (values, now.get(name)) for name, values in kept.items() if values != now.get(name)}
    assert moved == {}, "if that is meant, run `python -m tests.freeze_ids` and commit the difference"
