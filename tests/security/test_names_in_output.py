"""A name may hold any byte but a slash and NUL: what the command shows moves no cursor and makes no second line."""

import json
import os
from base64 import b64decode
from pathlib import Path

import pytest

from tests.cli.conftest import Fusefs, environment, fusefs
from tests.cli.test_command import on_a_terminal

__all__ = ["environment", "fusefs"]

HOSTILE = b"a\nERROR: all is lost\x1b]0;owned\x07\x1b[2J\r\xe2\x80\xaetxt.exe\xff\\n"
SHOWN = rb"a\x0aERROR: all is lost\x1b]0;owned\x07\x1b[2J\x0d\xe2\x80\xaetxt.exe\xff\\n".decode()
NAMES = [HOSTILE, b"plain", "größe".encode(), b"with space", b"tab\there", b"\x1b", b"two\nlines"]


@pytest.fixture
def keys(fusefs: Fusefs) -> list[bytes]:
    fusefs("pipeline", "create", "p", "--limit", str(len(NAMES))).ok()
    for name in NAMES:
        fusefs("pipeline", "object", "put", "p", os.fsdecode(name + b"=value")).ok()
    return sorted(NAMES)


def test_a_table(keys: list[bytes], environment: dict[str, str]) -> None:
    wide = {**environment, "COLUMNS": "300"}
    lines = on_a_terminal(wide, "pipeline", "object", "list", "p").replace("\r\n", "\n").splitlines()
    assert len(lines) == 1 + len(keys)
    assert all(line.isprintable() for line in lines), lines
    assert any(line.startswith(SHOWN) for line in lines)


def test_for_programs_names_are_exact(keys: list[bytes], fusefs: Fusefs) -> None:
    """Ended by NUL they can be told apart whatever they hold, and in JSON too."""
    assert fusefs("pipeline", "object", "list", "p", "--null").ok() == b"".join(key + b"\0" for key in keys)
    assert fusefs("pipeline", "object", "list", "-0", "p", "p").ok() == b"plain\0"
    rows = json.loads(fusefs("pipeline", "object", "list", "p", "--json").ok())
    exact = [row["key"].encode() if row["key"] is not None else b64decode(row["key_base64"]) for row in rows]
    assert exact == keys
    assert fusefs("pipeline", "object", "list", "p").ok() == b"".join(key + b"\n" for key in keys)


def test_two_forms_at_once_are_refused(keys: list[bytes], fusefs: Fusefs) -> None:
    refused = fusefs("pipeline", "object", "list", "p", "-0", "--json")
    assert (refused.code, refused.out) == (2, b"")


def test_null_on_a_terminal_is_no_table(keys: list[bytes], environment: dict[str, str]) -> None:
    assert on_a_terminal(environment, "pipeline", "object", "list", "-0", "p", "plain") == "plain\0"


ERRORS: dict[str, list[bytes]] = {
    "a key that is not there": [b"pipeline", b"object", b"get", b"p", HOSTILE + b"x"],
    "a key that is there": [b"pipeline", b"object", b"put", b"p", HOSTILE + b"=again"],
    "a pipeline": [b"pipeline", b"create", HOSTILE],
    "a pipeline that is not there": [b"pipeline", b"object", b"list", HOSTILE],
    "a run": [b"run", b"start", b"--pipeline", HOSTILE, b"7"],
    "a file": [b"pipeline", b"object", b"put", b"p", b"key", HOSTILE],
    "an option": [b"pipeline", b"create", b"--" + HOSTILE, b"p"],
    "a command": [HOSTILE],
    "a store": [b"pipeline", b"list", b"--store", b"/nowhere/" + HOSTILE],
    "a mountpoint": [b"mount", b"/nowhere/" + HOSTILE],
    "what is not mounted": [b"umount", b"/nowhere/" + HOSTILE],
    "a setting": [b"mount", b"--log-level", HOSTILE, b"/nowhere"],
    "a mount option": [b"mount", b"-o", HOSTILE, b"/nowhere"],
    "a configuration": [b"pipeline", b"list", b"--config", b"/nowhere/" + HOSTILE],
}


@pytest.mark.parametrize("arguments", ERRORS.values(), ids=ERRORS)
def test_an_error(keys: list[bytes], fusefs: Fusefs, arguments: list[bytes]) -> None:
    done = fusefs(*map(os.fsdecode, arguments))
    assert (done.code > 0, done.out) == (True, b"")
    assert done.err.startswith("fusefs: ")
    assert done.err.removesuffix("\n").isprintable(), done.err


def test_a_traceback(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEFS_LOG_LEVEL", "debug")
    done = fusefs("umount", "/nowhere/" + os.fsdecode(HOSTILE))
    lines = done.err.removesuffix("\n").split("\n")
    assert "Traceback (most recent call last):" in lines
    assert all(line.isprintable() for line in lines), done.err


def test_what_a_change_did_besides(keys: list[bytes], fusefs: Fusefs) -> None:
    """The oldest object goes: that with the name."""
    assert fusefs("pipeline", "object", "put", "p", "new=value").err == f"evicted {SHOWN}\n"


@pytest.mark.slow
def test_progress(fusefs: Fusefs, environment: dict[str, str], tmp_path: Path) -> None:
    fusefs("run", "start", "r").ok()
    with (tmp_path / "big").open("wb") as file:
        file.truncate(40_000_000)
    shows = on_a_terminal(
        {**environment, "COLUMNS": "300"},
        "run",
        "object",
        "put",
        "r",
        os.fsdecode(b"a\n\x07" + b"\xff"),
        f"{tmp_path}/big",
    )
    assert r"a\x0a\x07\xff" in shows
    assert "\x07" not in shows


def test_the_status_of_a_mount(fusefs: Fusefs, tmp_path: Path, environment: dict[str, str]) -> None:
    """Any user can mount something of our type on a path of any name."""
    path = tmp_path / "a\nserving\tetc\x1b[2J"
    path.mkdir()
    shown = f"{tmp_path}/a\\x0aserving\\x09etc\\x1b[2J"
    assert fusefs("status", str(path)).out.decode() == f"not mounted\t{shown}\n"
    assert json.loads(fusefs("status", "--json", str(path)).out)[0]["mountpoint"] == str(path)
    assert shown in on_a_terminal({**environment, "COLUMNS": "400"}, "status", str(path), exit_code=1)
