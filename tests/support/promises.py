"""Reads the promises of docs/contract.md and the tests that each of them links to.

A promise is an item of a list, or a row of a table, in the sections from "The tree" to before "Not yet". Its tests are
its links with the text `✓`: `[✓](../tests/contract/test_tree.py#test_deep_keys)`.

`python -m tests.support.promises` prints them all; script/promises does.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.documentation import ROOT

CONTRACT = ROOT / "docs/contract.md"
FIRST, BEHIND_THE_LAST = "The tree", "Not yet"
_TEST = re.compile(r"\[✓\]\(\.\./([^)#\s]+)(?:#([^)\s]*))?\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_MOUNTING = {"mounted", "make_mount"}
"""The fixtures of tests/conftest.py that mount a store."""


@dataclass(frozen=True, slots=True)
class Promise:
    section: str
    text: str
    """Without markup. A row of a table has its cells separated by " | "."""
    tests: tuple[tuple[str, str], ...]
    """The path from the root of the repository, and the function."""


def promises(page: str) -> Iterator[Promise]:
    """The promises on a page, in order."""
    sections = re.split(r"^## (.+)$", _FENCE.sub("", page), flags=re.MULTILINE)
    by_title = list(zip(sections[1::2], sections[2::2], strict=True))
    titles = [title for title, _ in by_title]
    for title, body in by_title[titles.index(FIRST) : titles.index(BEHIND_THE_LAST)]:
        for raw in _items(body):
            yield Promise(title, _plain(raw), tuple((path, name or "") for path, name in _TEST.findall(raw)))


def rows(page: str) -> Iterator[Promise]:
    """The rows of all tables of a page, with the tests that they link to."""
    sections = re.split(r"^## (.+)$", _FENCE.sub("", page), flags=re.MULTILINE)
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        for raw in _items("\n".join(line for line in body.splitlines() if line.startswith("|"))):
            yield Promise(title, _plain(raw), tuple((path, name or "") for path, name in _TEST.findall(raw)))


def _items(body: str) -> Iterator[str]:
    """The items of lists and the rows of tables, with their markup."""
    item: list[str] = []
    of = ""
    for line in [*body.splitlines(), ""]:
        if item and not line.startswith("  "):
            yield " ".join(item)
            item = []
        if line.startswith("- "):
            item = [line[2:]]
        elif item:
            item.append(line.strip())
        elif line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            # In "What a mount tells" a first cell stands for the rows below it as well.
            of = cells[0] or of
            if "\n" + line + "\n|---" not in "\n" + body:
                yield " | ".join([of, *cells[1:]])


def _plain(raw: str) -> str:
    text = _LINK.sub(r"\1", _TEST.sub("", raw))
    return re.sub(r"\s+", " ", re.sub(r"[`*]", "", text)).strip(" |")


# What a link leads to


def problems(promise: Promise, *, mounted: bool = True) -> Iterator[str]:
    """What is wrong with the tests of a promise. `mounted`: they have to run on a mount."""
    if not promise.tests:
        yield "has no test"
    for path, name in promise.tests:
        if not (ROOT / path).is_file():
            yield f"{path} does not exist"
        elif (function := _module(ROOT / path).functions.get(name)) is None or not name.startswith("test_"):
            yield f"{path} has no test {name!r}"
        elif mounted and not runs_on_a_mount(ROOT / path, name):
            yield f"{path}#{name} runs on no mount"
        elif _marks(function.decorator_list) & {"skip", "skipif", "xfail"}:
            yield f"{path}#{name} may be left out or fail"


def runs_on_a_mount(path: Path, name: str) -> bool:
    """Whether a test is marked `mount`, itself or with its module, or takes a fixture that comes from a mount.

    The mark alone would do for the runner; where a test takes fixtures of its module or directory, they are followed.
    """
    module = _module(path)
    if "mount" in module.marks | _marks(module.functions[name].decorator_list):
        return True
    fixtures = module.functions | _module(path.parent / "conftest.py").functions
    seen: set[str] = set()
    asked = _arguments(module.functions[name])
    while asked - seen:
        seen |= asked
        asked = {argument for each in asked & fixtures.keys() for argument in _arguments(fixtures[each])}
    return bool(seen & _MOUNTING)


@dataclass(frozen=True, slots=True)
class _Module:
    functions: dict[str, ast.FunctionDef]
    marks: set[str]


def _module(path: Path) -> _Module:
    """What a module defines at its top level; nothing where there is none."""
    tree = ast.parse(path.read_text() if path.exists() else "")
    marks: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            values = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            marks |= _marks(values)
    return _Module({node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}, marks)


def _marks(nodes: list[ast.expr]) -> set[str]:
    found = (re.match(r"pytest\.mark\.(\w+)", ast.unparse(node)) for node in nodes)
    return {match[1] for match in found if match}


def _arguments(function: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in function.args.args}


# The command


def _table(found: list[Promise]) -> Iterator[str]:
    section = ""
    for promise in found:
        if promise.section != section:
            section = promise.section
            yield f"\n{section}"
        short = promise.text if len(promise.text) <= 116 else promise.text[:113].rsplit(" ", 1)[0] + " ..."
        yield f"\n  {short}"
        yield from (f"      {path}::{name}" for path, name in promise.tests)
        yield from (f"      ! {problem}" for problem in problems(promise))
    tests = {test for promise in found for test in promise.tests}
    yield f"\n{len(found)} promises, {len(tests)} tests"


def main(arguments: list[str]) -> int:
    """Print the promises; with --json as a list of objects. Returns 1 when one of them lacks a test."""
    if arguments not in ([], ["--json"]):
        print("usage: script/promises [--json]", file=sys.stderr)
        return 2
    found = list(promises(CONTRACT.read_text()))
    if arguments:
        rows = [
            {"section": each.section, "promise": each.text, "tests": ["::".join(test) for test in each.tests]}
            for each in found
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_table(found)).lstrip())
    return int(any(problem for each in found for problem in problems(each)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
