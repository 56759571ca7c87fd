"""Dependencies run one way: fusefs uses the engine, never the reverse, and only the engine speaks SQL."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOVE_THE_ENGINE = {"fusefs", "pyfuse3", "trio"}
DATABASES = {"apsw", "sqlite3", "_sqlite3"}
IMPORT_FUNCTIONS = {"import_module", "__import__", "find_spec", "run_module"}

# A statement in capitals anywhere in a string, or in small letters at its beginning: not a sentence that says "select".
SQL = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT\s(OR\s\w+\s)?INTO|REPLACE\sINTO|UPDATE\s\w+\sSET|DELETE\sFROM|PRAGMA\s\w"
    r"|(CREATE|DROP|ALTER)\s(TEMP\s)?(UNIQUE\s)?(TABLE|INDEX|VIEW|TRIGGER)|BEGIN\s(IMMEDIATE|EXCLUSIVE))\b"
    r"|\A\s*(?i:SELECT\s.*\sFROM\s|INSERT\s(OR\s\w+\s)?INTO\s|UPDATE\s\w+\sSET\s|DELETE\sFROM\s|PRAGMA\s\w)",
    re.DOTALL,
)


def modules(package: str) -> dict[str, Path]:
    """Return the files of all modules of a top-level package, by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def without_the_suite() -> list[str]:
    """The modules of the engine but for those that are there for its users' tests."""
    return sorted(name for name in modules("engine") if name.split(".")[:2] != ["engine", "conformance"])


def imported(tree: ast.AST) -> Iterator[str]:
    """Give the top-level package of everything that the code imports, wherever and however it does."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
                called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
                if called in IMPORT_FUNCTIONS:
                    yield module.split(".")[0]


def sql_strings(tree: ast.AST) -> Iterator[str]:
    """Give every string of the code that holds an SQL statement. Docstrings may talk of SQL."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documentation and SQL.search(text):
                yield text
            case ast.JoinedStr(values=parts):
                # A statement may be whole only together with what is filled in.
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "filled_in" for part in parts)
                yield from [text] if SQL.search(text) else []
            case ast.Constant(value=bytes(data)) if SQL.search(data.decode("latin-1")):
                yield repr(data)


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_there_is_something_to_check() -> None:
    assert {"engine.errors", "engine.interface", "engine.conformance"} <= modules("engine").keys()


@pytest.mark.parametrize("name", modules("engine"))
def test_the_engine_imports_nothing_above_it(name: str) -> None:
    assert ABOVE_THE_ENGINE.isdisjoint(imported(parse(modules("engine")[name])))


@pytest.mark.parametrize("name", without_the_suite())
def test_only_the_conformance_suite_needs_pytest(name: str) -> None:
    assert {"pytest", "_pytest", "hypothesis", "tests"}.isdisjoint(imported(parse(modules("engine")[name])))


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (sorted(modules("engine")), ABOVE_THE_ENGINE),
        (without_the_suite(), ABOVE_THE_ENGINE | {"pytest"}),
    ],
    ids=["all", "without-the-suite"],
)
def test_importing_the_engine_loads_nothing_above_it(names: list[str], absent: set[str]) -> None:
    """The same as seen by a fresh interpreter, so that nothing gets in by way of a dependency."""
    program = (
        "import importlib, sys\n"
        f"for name in {[name for name in names if not name.endswith('__main__')]!r}: importlib.import_module(name)\n"
        f"print(*sorted({absent!r} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", modules("fusefs"))
def test_nothing_above_the_engine_touches_the_database(name: str) -> None:
    tree = parse(modules("fusefs")[name])
    assert DATABASES.isdisjoint(imported(tree))
    assert list(sql_strings(tree)) == []


def test_no_sql_file_lies_above_the_engine() -> None:
    assert list((ROOT / "fusefs").rglob("*.sql")) == []


# The checks themselves: what they must see, and what they must let pass.


@pytest.mark.parametrize(
    "source",
    [
        "import trio",
        "import os, trio",
        "import trio.lowlevel as low",
        "from trio import run",
        "from trio.lowlevel import checkpoint",
        "def later():\n    import trio",
        "class Late:\n    def method(self):\n        from trio import run",
        "if TYPE_CHECKING:\n    import trio",
        "try:\n    import trio\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('trio')",
        "from importlib import import_module\nimport_module('trio.lowlevel')",
        "__import__('trio')",
        "importlib.util.find_spec('trio')",
    ],
)
def test_an_import_is_seen(source: str) -> None:
    assert "trio" in imported(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    ["import triode", "from engine import trio", "from . import trio", "'import trio'", "group = 'trio.engines'"],
)
def test_what_only_looks_like_an_import_passes(source: str) -> None:
    assert "trio" not in imported(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "run('SELECT name FROM node')",
        "run('''\n    SELECT name\n    FROM node\n''')",
        "run('select name from node where ino = ?')",
        "run(f'SELECT {columns} FROM node')",
        "run(f'DELETE FROM {table}')",
        "run('-- why\\nINSERT OR REPLACE INTO node VALUES (?)')",
        "QUERY = 'UPDATE node SET size = ?'",
        "run('PRAGMA journal_mode')",
        "run('CREATE UNIQUE INDEX i ON node (name)')",
        "run('BEGIN IMMEDIATE')",
        "run(b'DELETE FROM node')",
    ],
)
def test_sql_is_seen(source: str) -> None:
    assert list(sql_strings(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "'''This module never says SELECT name FROM node.'''",
        "help = 'Delete an object from a pipeline'",
        "help = 'Removes what you select from the list'",
        "help = 'The update of a set'",
        "name = 'select'",
    ],
)
def test_what_only_looks_like_sql_passes(source: str) -> None:
    assert list(sql_strings(ast.parse(source))) == []
