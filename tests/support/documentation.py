"""Reads the command blocks of the documentation and runs them, a page in one shell.

A fenced block of commands stands right below one of these lines:

    <!-- test -->               it is run
    <!-- test in containers --> it is run beside a Docker engine
    <!-- no test: REASON -->    it is not

In a block `console`, lines after `$ ` are commands (continued after `> `) and the rest is their output, to the letter;
a line `...` stands for any number of lines. A command has to succeed unless the next one is `echo $?`. In a block
`sh` every command has to succeed, and `python` is a program that has to.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_LANGUAGES = {"console", "sh", "bash", "python"}
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Block:
    """Commands on a page."""

    page: Path
    line: int
    language: str
    mark: str
    """The comment above it; empty if there is none."""
    text: str


@dataclass(slots=True)
class Step:
    """One command, or a block of them, and what it has to print."""

    block: Block
    command: str
    output: list[str] | None = None
    """None: anything."""
    may_fail: bool = field(default=False)


def command_blocks(page: Path) -> list[Block]:
    """Return the blocks of commands on a page."""
    content = page.read_text()
    return [
        Block(page, content.count("\n", 0, found.start()) + 1, found["language"], found["mark"] or "", found["text"])
        for found in _BLOCK.finditer(content)
        if found["language"] in _LANGUAGES
    ]


def steps(block: Block) -> list[Step]:
    """Take a block apart into what is run one by one."""
    if block.language == "python":
        return [Step(block, f"{sys.executable} - <<'END-OF-BLOCK'\n{block.text}END-OF-BLOCK")]
    if block.language != "console":
        return [Step(block, f"set -e\n{block.text}set +e")]
    result: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            result.append(Step(block, line[2:], []))
        elif line.startswith("> ") and result and not result[-1].output:
            result[-1].command += "\n" + line[2:]
        else:
            output = result[-1].output if result else None
            assert output is not None, f"{block.page.name}:{block.line}: output before the first command"
            output.append(line)
    for step, following in pairwise(result):
        step.may_fail = following.command == "echo $?"
    return result


def run_page(
    page: Path,
    directory: Path,
    mark: str = "test",
    *,
    instead: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """Run the blocks of a page that have this mark in `directory`, and return what went wrong.

    `instead` is what stands in commands and outputs for what the page says, `more` are further environment variables.
    """
    todo = [step for block in command_blocks(page) if block.mark == mark for step in steps(_replaced(block, instead))]
    token = "@@end-of-step@@"
    function = f"__mark() {{ local status=$?; printf '{token}%d\\n' $status; return $status; }}"
    lines = [function, *(f"{step.command}\n__mark" for step in todo)]
    script, log = directory / "page.sh", directory / "page.log"
    script.write_text("\n".join(lines) + "\n")
    home = directory / "home"
    home.mkdir(exist_ok=True)
    # A file, not a pipe: a daemon that a page starts would hold a pipe open.
    with log.open("wb") as output:
        subprocess.run(
            ["bash", str(script)],
            cwd=home,
            env={**environment(home), **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=_SECONDS,
            check=False,
        )
    return _differences(todo, log.read_text(errors="backslashreplace").split(token))


def _replaced(block: Block, instead: Mapping[str, str] | None) -> Block:
    text = block.text
    for said, meant in (instead or {}).items():
        text = text.replace(said, meant)
    return replace(block, text=text)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user who has nothing set up and whose store is in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FUSEFS_", "XDG_"))}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"
    store = str(home / "objects.db")
    return {**kept, "HOME": str(home), "PATH": path, "FUSEFS_STORE": store, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _differences(todo: list[Step], parts: list[str]) -> list[str]:
    """Compare what was printed, cut at the ends of the steps: each part but the first starts with a status."""
    wrong: list[str] = []
    printed = parts[0]
    for number, step in enumerate(todo):
        where = f"{step.block.page.relative_to(ROOT)}:{step.block.line}: {step.command}"
        if number + 1 >= len(parts):
            return [*wrong, f"{where}\nfailed, and nothing after it was run; it printed:\n{printed}"]
        status, _, following = parts[number + 1].partition("\n")
        if status != "0" and not step.may_fail:
            wrong.append(f"{where}\nended with {status}; it printed:\n{printed}")
        elif step.output is not None and not _matches(step.output, printed):
            expected = "\n".join(step.output)
            wrong.append(f"{where}\nshould print:\n{expected}\nprinted:\n{printed}")
        printed = following
    return wrong


def _matches(expected: list[str], printed: str) -> bool:
    """A last newline is not looked at: `object get` adds none."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + r"\n" for line in expected)
    return re.fullmatch(pattern, printed if not printed or printed.endswith("\n") else printed + "\n") is not None
