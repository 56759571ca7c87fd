"""Every promise of docs/contract.md has tests that run on a real mount."""

import errno
import json
import re
import subprocess
from collections import Counter

import pytest

from fusefs.errnos import ERRNO_OF
from tests.support.documentation import ROOT
from tests.support.promises import CONTRACT, Promise, problems, promises, runs_on_a_mount

PROMISES = list(promises(CONTRACT.read_text()))
REFUSED = "What is refused, and how"


def test_all_sections_hold_promises() -> None:
    """A page of which nothing is found would let everything pass."""
    per_section = Counter(promise.section for promise in PROMISES)
    for section in re.findall(r"^## (.+)$", CONTRACT.read_text(), re.MULTILINE):
        assert (per_section[section] > 0) == (section != "Not yet"), section
    assert len(PROMISES) > 100


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text[:60])
def test_a_promise_has_tests(promise: Promise) -> None:
    assert list(problems(promise)) == []


def test_no_promise_is_there_twice() -> None:
    texts = Counter(promise.text for promise in PROMISES)
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_promise_names_a_test_twice() -> None:
    assert [promise.text for promise in PROMISES if len(set(promise.tests)) < len(promise.tests)] == []


def test_every_errno_of_the_engine_is_on_the_page() -> None:
    rows = [promise.text.split(" | ")[0] for promise in PROMISES if promise.section == REFUSED]
    named = [row for row in rows if row.startswith("E")]
    assert {errno.errorcode[number] for number in ERRNO_OF.values()} <= set(named)
    # Each of them is one that there is, and stands there once.
    assert all(hasattr(errno, name) for name in named)
    assert len(named) == len(set(named))


def test_the_command_prints_them_all() -> None:
    command = [ROOT / ".venv/bin/python", "-m", "tests.support.promises"]
    as_json, as_text = (
        subprocess.run([*command, *option], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for option in (["--json"], [])
    )
    rows = json.loads(as_json)
    assert [row["promise"] for row in rows] == [promise.text for promise in PROMISES]
    assert f"{len(PROMISES)} promises" in as_text
    assert all(f"{path}::{name}" in as_text for promise in PROMISES for path, name in promise.tests)


# The parser itself, and what it checks

PAGE = """
# A page

- Not in a section that counts.

## The tree

Some words.

    - not a promise but an example

- One of two lines,
  with `code` and a [link](#elsewhere).
  [✓](../tests/contract/test_tree.py#test_deep_keys) [✓](../tests/contract/test_tree.py#test_rm_r_works)
- One without a test.

## Tables

| of | what | test |
|---|---|---|
| a pipeline | one | [✓](../tests/contract/test_limits.py#test_a_limit_of_1) |
| | two | |

## Not yet

- Not promised.
"""


def test_what_is_found_on_a_page() -> None:
    tree = "tests/contract/test_tree.py"
    assert list(promises(PAGE)) == [
        Promise(
            "The tree", "One of two lines, with code and a link.", ((tree, "test_deep_keys"), (tree, "test_rm_r_works"))
        ),
        Promise("The tree", "One without a test.", ()),
        Promise("Tables", "a pipeline | one", (("tests/contract/test_limits.py", "test_a_limit_of_1"),)),
        Promise("Tables", "a pipeline | two", ()),
    ]
    assert [len(list(problems(promise))) for promise in promises(PAGE)] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("path", "name", "problem"),
    [
        ("tests/contract/test_missing.py", "test_deep_keys", "does not exist"),
        ("tests/contract/test_tree.py", "test_missing", "has no test"),
        ("tests/contract/test_tree.py", "", "has no test"),
        ("tests/contract/test_tree.py", "_bind_in", "has no test"),
        ("tests/engine/test_eviction.py", "test_the_oldest_makes_way", "runs on no mount"),
        ("tests/mount/test_errnos.py", "test_no_errno_hides_success", "runs on no mount"),
        ("tests/cli/test_mount.py", "test_allow_other", "may be left out"),
    ],
)
def test_links_that_prove_nothing(path: str, name: str, problem: str) -> None:
    (found,) = problems(Promise("The tree", "text", ((path, name),)))
    assert problem in found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tests/contract/test_tree.py", "test_deep_keys"),  # the module is marked
        ("tests/mount/test_idle.py", "test_an_idle_daemon"),  # it takes make_mount
        ("tests/contract/test_temporary_names_after_a_kill.py", "test_killed_before_the_rename"),  # its fixture does
    ],
)
def test_what_runs_on_a_mount(path: str, name: str) -> None:
    assert runs_on_a_mount(ROOT / path, name)


def test_no_engine_test_counts_as_one_on_a_mount() -> None:
    for path in sorted((ROOT / "tests/engine").glob("test_*.py")):
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE):
            assert not runs_on_a_mount(path, name), f"{path}: {name}"
