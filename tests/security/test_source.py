"""What the code never does: start a shell, run text as code, or read a format that can run something."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documentation import ROOT

SOURCES = sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "fusefs").rglob("*.py")])

_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "yaml", "ruamel", "commands", "pty", "code"}
"""That read what can run something, or start shells."""
_CALLS = {
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
    *("asyncio.create_subprocess_shell", "eval", "exec", "compile", "__import__"),
}
_STARTS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output", "trio.run_process"}


def wrong(source: str) -> Iterator[str]:
    """What a module does that it should not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in _MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from [str(node.module)] * (str(node.module).partition(".")[0] in _MODULES)
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in _CALLS)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            shell = [keyword for keyword in node.keywords if keyword.arg == "shell" or keyword.arg is None]
            if called in _CALLS or called.startswith(("os.spawn", "os.exec")) or (called in _STARTS and shell):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_and_no_code_from_data(path: Path) -> None:
    assert list(wrong(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "os.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "subprocess.Popen(command, **options)",
        "from os import popen",
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "tempfile.mktemp()",
    ],
)
def test_what_is_noticed(source: str) -> None:
    assert list(wrong(source))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_threads_that_may_wait_are_counted_by_what_they_wait_for(path: Path) -> None:
    """Those of trio's own count are for everything: a client that makes enough of them wait would stop all else."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    in_threads = [call for call in calls if ast.unparse(call.func).endswith("to_thread.run_sync")]
    assert all("limiter" in [keyword.arg for keyword in call.keywords] for call in in_threads)


def test_programs_of_our_own_are_started_without_the_directory_that_we_are_in() -> None:
    """Python finds modules in its working directory first, unless -I or -P says otherwise."""
    started = [
        [ast.unparse(element) for element in node.elts]
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts and ast.unparse(node.elts[0]) == "sys.executable"
    ]
    assert started
    assert all({"'-I'", "'-P'"} & set(words) for words in started), started
