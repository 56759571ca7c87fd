"""The command as a whole: its exit codes, its one line of error, its start-up, its tables on a terminal."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import engine.errors
import fusefs.cli
from engine.errors import StoreError
from fusefs.cli import exit_codes
from fusefs.cli.exit_codes import exit_code
from fusefs.cli.output import json_time, shown
from fusefs.errors import MountError
from tests.cli.conftest import Fusefs

Process = Callable[..., subprocess.CompletedProcess[bytes]]

HEAVY = {"pyfuse3", "trio", "rich", "importlib.metadata", "asyncio"}


def commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    """All commands under `group`, by what one types."""
    found = []
    for name, command in group.commands.items():
        found += commands(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("path", commands(fusefs.cli.fusefs), ids=" ".join)
def test_every_command_has_help_and_names_a_store(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(fusefs.cli.fusefs, [*path, "--help"])
    assert done.exit_code == 0
    if path not in [("umount",), ("status",)]:
        assert "--store" in done.output
        assert "--config" in done.output


@pytest.mark.parametrize("group", [[], ["pipeline"], ["run"], ["run", "object"]])
def test_a_group_alone_shows_its_help(fusefs: Fusefs, group: list[str]) -> None:
    ended = fusefs(*group)
    assert ended.code == 2
    assert "Commands:" in ended.err


# Errors


def test_every_error_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(engine.errors).values() if isinstance(kind, type) and issubclass(kind, StoreError)]
    codes = {kind.__name__: exit_code(kind("x")) for kind in kinds}
    assert {name for name, code in codes.items() if code == exit_codes.USAGE} == {"InvalidError", "NameTooLongError"}
    assert {name for name, code in codes.items() if code == exit_codes.NOT_FOUND} == {"NotFoundError"}
    assert {name for name, code in codes.items() if code == exit_codes.EXISTS} == {"ExistsError"}
    assert exit_code(MountError("x")) == exit_code(OSError()) == exit_code(ValueError()) == exit_codes.FAILURE


def test_the_documented_codes_are_those_in_use() -> None:
    documented = {int(code) for code in re.findall(r"^ *(\d+) ", exit_codes.__doc__ or "", re.MULTILINE)}
    assert documented == {value for name, value in vars(exit_codes).items() if name.isupper() and name[0] != "_"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["pipeline", "create"],
        ["pipeline", "create", "a", "b"],
        ["pipeline", "list", "--store", "s3:bucket"],
        ["pipeline", "list", "--config", "/nonexistent"],
        ["run", "start", "1", "--store"],
    ],
)
def test_wrong_use_is_one_line_and_code_2(fusefs: Fusefs, arguments: list[str]) -> None:
    ended = fusefs(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert re.fullmatch(r"fusefs: .+\n", ended.err)


def test_wrong_environment_is_code_2(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEFS_RUN_OBJECT_EXPIRY", "soon")
    ended = fusefs("run", "list")
    assert ended.code == 2
    assert "FUSEFS_RUN_OBJECT_EXPIRY" in ended.err


def test_stores_that_cannot_be_opened(fusefs: Fusefs, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is not a store" * 100)
    for store in ("text", "", "text/below"):
        ended = fusefs("pipeline", "create", "p", "--store", f"{tmp_path}/{store}")
        assert (ended.code, ended.out) == (1, b"")
        assert re.fullmatch(r"fusefs: .+\n", ended.err)
    assert (tmp_path / "text").read_text() == "this is not a store" * 100


def test_the_unexpected_is_two_lines_and_a_traceback_on_demand(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("engine.open_store", fail)
    ended = fusefs("run", "list")
    assert ended.code == 1
    assert ended.err.splitlines()[0] == "fusefs: unexpected ZeroDivisionError: oh"
    assert "Traceback" not in ended.err
    assert "Traceback" in fusefs("--debug", "run", "list").err
    monkeypatch.setenv("FUSEFS_LOG_LEVEL", "debug")
    assert "Traceback" in fusefs("run", "list").err


@pytest.mark.parametrize("command", ["mount", "umount", "status"])
def test_an_empty_mountpoint_is_not_the_working_directory(fusefs: Fusefs, command: str) -> None:
    ended = fusefs(command, "")
    assert ended.code == exit_codes.USAGE
    assert ended.out == b""
    assert "MOUNTPOINT" in ended.err
    assert "it is empty" in ended.err


def test_interrupted(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.open_store", interrupt)
    assert fusefs("run", "list").code == 130


# Start-up


@pytest.mark.parametrize("command", [["object", "get", "p", "k"], ["object", "list", "p"], ["list", "--json"]])
def test_what_a_quick_command_does_not_import(
    fusefs: Fusefs, environment: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    fusefs("pipeline", "create", "p").ok()
    fusefs("pipeline", "object", "put", "p", "k=v").ok()
    code = (
        "import sys, atexit; from fusefs.cli import main;"
        " atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "pipeline", *command], env=environment, capture_output=True, check=True
    )
    assert HEAVY.isdisjoint(ended.stderr.decode().split())


def test_help_does_not_open_the_database() -> None:
    code = "import sys, fusefs.cli; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[2])
    imported = ended.stdout.decode().split()
    assert HEAVY.isdisjoint(imported)
    assert "apsw" not in imported


# For people


def on_a_terminal(environment: dict[str, str], *arguments: str, exit_code: int = 0) -> str:
    """Run the command with a terminal for its output, and return what it shows."""
    main, side = pty.openpty()
    with open(side, "wb") as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "fusefs", *arguments], env=environment, stdout=terminal, stderr=terminal
        )
    shows = b""
    with open(main, "rb", buffering=0) as screen:
        try:
            while chunk := screen.read(4096):
                shows += chunk
        except OSError:  # the last to have it open as a terminal has closed it
            pass
    assert process.wait() == exit_code
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shows.decode())


def test_tables_on_a_terminal(fusefs: Fusefs, environment: dict[str, str]) -> None:
    fusefs("pipeline", "create", "p", "--limit", "7").ok()
    fusefs("run", "start", "r1", "--pipeline", "p").ok()
    fusefs("pipeline", "object", "put", "p", os.fsdecode(b"odd\x1b[31m\xff=four")).ok()
    fusefs("pipeline", "object", "put", "p", "[bold]markup[/bold]=").ok()
    objects = on_a_terminal(environment, "pipeline", "object", "list", "p")
    assert re.search(r"KEY +SIZE +MODIFIED", objects)
    assert re.search(r"odd\\x1b\[31m\\xff +4 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", objects)
    assert "[bold]markup[/bold]" in objects
    assert re.search(r"p +2 +7", on_a_terminal(environment, "pipeline", "list"))
    assert re.search(r"r1 +p +0 +0 +\d{4}-.* no", on_a_terminal(environment, "run", "list"))


def test_progress_of_large_values_on_a_terminal(fusefs: Fusefs, environment: dict[str, str], tmp_path: Path) -> None:
    fusefs("run", "start", "r").ok()
    with (tmp_path / "big").open("wb") as file:
        file.truncate(40_000_000)
    assert "big" in on_a_terminal(environment, "run", "object", "put", "r", "big", str(tmp_path / "big"))
    assert on_a_terminal(environment, "run", "object", "put", "r", "small=1") == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain-1.txt", "plain-1.txt"),
        ("größe".encode(), "größe"),
        (b"a\nb\x1b[0m", r"a\x0ab\x1b[0m"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"a\\x0a", r"a\\x0a"),
        ("right\u202eleft".encode(), r"right\xe2\x80\xaeleft"),
    ],
)
def test_names_are_safe_to_show(name: bytes, text: str) -> None:
    assert shown(name) == text


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_times_in_json(time_ns: int, text: str) -> None:
    assert json_time(time_ns) == text
