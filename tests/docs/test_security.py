"""Every line of the threat model in docs/security.md has tests that fail when it is broken."""

import re

import pytest

from tests.support.documentation import ROOT
from tests.support.promises import Promise, problems, rows

PAGE = (ROOT / "docs/security.md").read_text()
THREATS = list(rows(PAGE))


def test_all_tables_are_found() -> None:
    """A page of which nothing is found would let everything pass."""
    tables = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if "\n| threat |" in part]
    assert len(tables) == 3
    assert len(THREATS) == len(re.findall(r"^\| (?!threat \|)", PAGE, re.MULTILINE)) > 30


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.text[:60])
def test_a_threat_has_tests(threat: Promise) -> None:
    assert list(problems(threat, mounted=False)) == []


def test_a_line_without_a_test_is_noticed() -> None:
    page = "## A\n\n| threat | what | test |\n|---|---|---|\n| a | b | |\n| c | d | [✓](../tests/nowhere.py#test_x) |\n"
    found = [list(problems(row, mounted=False)) for row in rows(page)]
    assert found == [["has no test"], ["tests/nowhere.py does not exist"]]
