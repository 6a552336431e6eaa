"""What `make env` installs: the lock, or the ranges where an index lacks it; never a file with another hash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
MISSING = "ERROR: No matching distribution found for torch==9.9"
OTHER_HASH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


def environment(tmp_path, answer="", locked="1"):
    """`.ci/environment` with a pip that refuses the lock with `answer`, if any: (ended, what pip was asked for)."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"if '--requirement' in sys.argv and {answer!r}:\n"
        f"    sys.exit({answer!r})\n"
    )
    python.chmod(0o755)
    words = [CHECKOUT / ".ci" / "environment", python, *([locked] if locked else [])]
    ended = subprocess.run(words, check=False, capture_output=True, text=True, cwd=CHECKOUT, env=dict(os.environ))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "-m pip install --quiet --upgrade pip"
    return ended, [words.removeprefix("-m pip install --quiet ") for words in asked[1:]]


LOCK, ALONE = "--require-hashes --requirement requirements.lock", "--no-deps --no-build-isolation --editable ."
RANGES = "--editable .[dev,docs]"


def test_the_lock_is_installed_and_this_checkout_alone_beside_it(tmp_path):
    ended, asked = environment(tmp_path)
    assert (ended.returncode, asked) == (0, [LOCK, ALONE])


def test_an_index_that_lacks_a_version_gives_the_ranges_and_it_is_said(tmp_path):
    ended, asked = environment(tmp_path, MISSING)
    assert (ended.returncode, asked) == (0, [LOCK, RANGES])
    assert "torch==9.9" in ended.stderr and "this index lacks a locked version" in ended.stderr


@pytest.mark.parametrize("answer", [OTHER_HASH, "ERROR: Could not install packages: No space left on device"])
def test_a_file_with_another_hash_and_any_other_fault_end_it(tmp_path, answer):
    ended, asked = environment(tmp_path, answer)
    assert (ended.returncode, asked) == (1, [LOCK])
    assert answer in ended.stderr


def test_without_the_lock_the_ranges_are_installed_at_once(tmp_path):
    ended, asked = environment(tmp_path, locked="")
    assert (ended.returncode, asked) == (0, [RANGES])
