"""What the documentation tells people to type works, and prints what it says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documentation import PAGES, ROOT, Block, command_blocks, run_page, steps
from tests.support.scratch import make_directory, remove_directory, sweep

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def directory() -> Iterator[Path]:
    path = make_directory()
    yield path
    left = [mountpoint for mountpoint in sweep(os.getpid()) if mountpoint.is_relative_to(path)]
    remove_directory(path)
    assert not left, "the page leaves this mounted"


@pytest.mark.mount
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.mark == "test" for block in command_blocks(page))], ids=name
)
def test_commands_do_what_the_page_says(page: Path, directory: Path) -> None:
    wrong = run_page(page, directory)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_commands_is_run_or_says_why_not(page: Path) -> None:
    for block in command_blocks(page):
        assert block.mark in ("test", "test in containers") or re.fullmatch("no test: .+", block.mark), (
            f"{name(page)}:{block.line}: put <!-- test -->, <!-- test in containers --> or <!-- no test: WHY --> above"
        )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{name(page)} links to {target}"


# The runner itself: one that notices nothing would let everything pass.


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("$ echo a\na\n", None),
        ("$ printf a\na\n", None),
        ("$ printf 'a\\nb\\nc\\n'\na\n...\nc\n", None),
        ("$ x=1\n$ echo $x\n1\n", None),
        ("$ for i in 1 2\n> do echo $i; done\n1\n2\n", None),
        ("$ false\n$ echo $?\n1\n", None),
        ("$ echo a\nb\n", "should print"),
        ("$ echo a\n", "should print"),
        ("$ true\na\n", "should print"),
        ("$ false\n", "ended with 1"),
        ("$ exit 0\n$ echo a\na\n", "nothing after it was run"),
    ],
)
def test_the_runner_notices(text: str, complaint: str | None, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "made-up.md"
    monkeypatch.setattr(
        "tests.support.documentation.command_blocks", lambda _: [Block(page, 1, "console", "test", text)]
    )
    wrong = run_page(page, directory)
    assert len(wrong) == (complaint is not None), wrong
    assert complaint is None or complaint in wrong[0]


def test_the_first_command_of_a_script_that_fails_is_noticed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(ROOT / "made-up.md", 1, "sh", "test", "false\ntrue\n")
    monkeypatch.setattr("tests.support.documentation.command_blocks", lambda _: [block])
    assert len(run_page(block.page, directory)) == 1


def test_a_python_block_is_a_program(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(ROOT / "made-up.md", 1, "python", "test", "raise SystemExit(3)\n")
    assert "raise SystemExit(3)" in steps(block)[0].command
    monkeypatch.setattr("tests.support.documentation.command_blocks", lambda _: [block])
    assert "ended with 3" in run_page(block.page, directory)[0]
