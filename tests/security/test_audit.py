"""The audit of what is pinned: no answer is not the same as no vulnerability."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.auditing import REQUIRED, Audit, failed, judged, told
from tests.support.documentation import ROOT

ADVISORY = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": ["CVE-2026-1"], "description": "It is bad."}
FINE: dict[str, Any] = {"name": "fine", "version": "1.0", "vulns": []}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "1.0",
    "vulns": [ADVISORY, {**ADVISORY, "id": "X", "fix_versions": []}],
}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "said", "fails", "fails_if_required"),
    [
        ([FINE], "1 packages, none with a known vulnerability", False, False),
        ([FINE, BAD], "bad 1.0: PYSEC-2026-1, repaired in 1.1", True, True),
        ([FINE, BAD], "bad 1.0: X, repaired in no version", True, True),
        ([FINE, UNKNOWN], "NOT AUDITED: PyPI tells nothing of 1 of 2 packages (unknown)", False, True),
        ([BAD, UNKNOWN], "bad 1.0: PYSEC-2026-1, repaired in 1.1", True, True),
    ],
)
def test_what_an_answer_means(packages: list[Any], said: str, fails: bool, fails_if_required: bool) -> None:
    found = judged({"dependencies": packages, "fixes": []})
    assert said in list(told(found))
    assert failed(found, required=False) is fails
    assert failed(found, required=True) is fails_if_required


def test_no_answer_never_reads_like_a_good_one() -> None:
    for found in (Audit(0, trouble="no answer"), judged({"dependencies": [UNKNOWN]})):
        lines = list(told(found))
        assert lines[0].startswith("NOT AUDITED: ")
        assert not any("none with a known" in line for line in lines)


@pytest.mark.slow
def test_without_a_network(tmp_path: Path) -> None:
    """The real thing, where nobody can be asked and an answer is required."""
    (tmp_path / "pins.txt").write_text("click==8.3.0\n")
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    nowhere = {**proxies, "NO_PROXY": "", "no_proxy": "", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.auditing", str(tmp_path / "pins.txt")],
        cwd=ROOT,
        env={**os.environ, **nowhere, REQUIRED: "required"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.startswith("audit: NOT AUDITED: ")
    assert done.returncode == 1


def test_lint_runs_it() -> None:
    assert "script/audit || failed=1" in (ROOT / "script/lint").read_text().splitlines()
