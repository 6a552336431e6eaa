"""The audit of the locked versions says what was looked up: an index that knows no package is no all-clear."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit"

SOUND = {"name": "click", "version": "8.4.2", "vulns": []}
FLAWED = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.6.0)"}


def audit(tmp_path, answers):
    """`.ci/audit` with a pip-audit that answers per database: (exit code, packages or text of its error)."""
    program = tmp_path / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"code, said = json.loads({json.dumps(answers)!r})[sys.argv[-1]]\n"
        "print(said, file=sys.stderr) if isinstance(said, str) else print(json.dumps({'dependencies': said}))\n"
        "sys.exit(code)\n"
    )
    program.chmod(0o755)
    return subprocess.run([sys.executable, AUDIT, program, "lock"], check=False, capture_output=True, text=True)


def test_a_known_flaw_fails_and_names_the_version_that_mends_it(tmp_path):
    ended = audit(tmp_path, {"pypi": [1, [SOUND, FLAWED, UNKNOWN]]})
    assert ended.returncode == 1
    assert "pillow 1.0: PYSEC-1, mended in 1.1" in ended.stdout
    assert "2 of 3 packages looked up, 1 with a known flaw" in ended.stdout


def test_what_was_looked_up_is_counted(tmp_path):
    ended = audit(tmp_path, {"pypi": [0, [SOUND, UNKNOWN]]})
    assert ended.returncode == 0
    assert "1 of 2 packages looked up, 0 with a known flaw" in ended.stdout


def test_an_index_that_knows_nothing_is_no_all_clear_and_the_next_database_is_asked(tmp_path):
    ended = audit(tmp_path, {"pypi": [0, [UNKNOWN]], "osv": [1, [FLAWED]]})
    assert ended.returncode == 1 and "pypi: knows none of 1 packages" in ended.stdout
    ended = audit(tmp_path, {"pypi": [0, [UNKNOWN]], "osv": [1, "ConnectionError: Max retries exceeded"]})
    assert ended.returncode == 0
    assert ended.stdout.endswith("nothing was audited\n") and "looked up" not in ended.stdout


@pytest.mark.parametrize("code", [0, 1, 2])
def test_another_end_is_a_failure(tmp_path, code):
    ended = audit(tmp_path, {"pypi": [code, "error: no such file: lock"]})
    assert ended.returncode == 1 and "no such file" in ended.stderr
