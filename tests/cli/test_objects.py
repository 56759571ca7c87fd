"""`fusefs pipeline object` and `fusefs run object`: bytes in, the same bytes out."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Fusefs

Process = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(params=["pipeline", "run"])
def scope(request: pytest.FixtureRequest, fusefs: Fusefs) -> str:
    """Both kinds, each with one called s."""
    fusefs("pipeline", "create", "s").ok()
    fusefs("run", "start", "s").ok()
    return str(request.param)


def test_key_and_value(scope: str, fusefs: Fusefs) -> None:
    fusefs(scope, "object", "put", "s", "key=value=with=more").ok()
    assert fusefs(scope, "object", "get", "s", "key").ok() == b"value=with=more"


def test_an_empty_value(scope: str, fusefs: Fusefs) -> None:
    fusefs(scope, "object", "put", "s", "key=").ok()
    assert fusefs(scope, "object", "get", "s", "key").ok() == b""


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 65537, 5_000_000])
def test_a_file(scope: str, fusefs: Fusefs, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    fusefs(scope, "object", "put", "s", "dir/a=b", str(tmp_path / "file")).ok()
    assert fusefs(scope, "object", "get", "s", "dir/a=b").ok() == content


def test_standard_input(scope: str, fusefs: Fusefs) -> None:
    content = bytes(range(256)) * 10_000
    fusefs(scope, "object", "put", "s", "key", "-", stdin=content).ok()
    assert fusefs(scope, "object", "get", "s", "key").ok() == content


def test_store_is_another_name_for_object(scope: str, fusefs: Fusefs) -> None:
    fusefs(scope, "store", "put", "s", "key=value").ok()
    assert fusefs(scope, "store", "get", "s", "key").ok() == b"value"
    assert fusefs(scope, "store", "list", "s").ok() == b"key\n"
    fusefs(scope, "store", "delete", "s", "key").ok()
    assert fusefs(scope, "object", "list", "s").ok() == b""


def test_put_refuses_to_replace_unless_forced(scope: str, fusefs: Fusefs) -> None:
    fusefs(scope, "object", "put", "s", "key=old").ok()
    refused = fusefs(scope, "object", "put", "s", "key=new")
    assert refused.code == 4
    assert "--force" in refused.err
    assert fusefs(scope, "object", "get", "s", "key").ok() == b"old"
    fusefs(scope, "object", "put", "--force", "s", "key=new").ok()
    assert fusefs(scope, "object", "get", "s", "key").ok() == b"new"


def test_put_tells_what_it_evicted(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p", "--limit", "2").ok()
    for key in ("dir/a", "b"):
        fusefs("pipeline", "object", "put", "p", f"{key}=1").ok()
    put = fusefs("pipeline", "object", "put", "p", "c=1")
    assert (put.code, put.out, put.err) == (0, b"", "evicted dir/a\n")
    assert fusefs("pipeline", "object", "list", "p").ok() == b"b\nc\n"


def test_the_owner_is_who_put_it(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine import ScopeName, open_store
    from engine.config import load_settings

    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 5678)
    fusefs("pipeline", "create", "p").ok()
    fusefs("pipeline", "object", "put", "p", "k=1").ok()
    with open_store(load_settings().object_store, read_only=True) as store:
        node = store.find_object(ScopeName.pipeline("p"), b"k")
    assert (node.uid, node.gid) == (1234, 5678)


@pytest.mark.parametrize(
    "arguments",
    [["key"], [], ["key", "file", "more"]],
)
def test_wrong_arguments_of_put(scope: str, fusefs: Fusefs, arguments: list[str]) -> None:
    assert fusefs(scope, "object", "put", "s", *arguments).code == 2
    assert fusefs(scope, "object", "list", "s").ok() == b""


def test_files_that_cannot_be_read(scope: str, fusefs: Fusefs, tmp_path: Path) -> None:
    missing = fusefs(scope, "object", "put", "s", "key", str(tmp_path / "missing"))
    assert (missing.code, missing.err) == (1, f"fusefs: {tmp_path}/missing: No such file or directory\n")
    directory = fusefs(scope, "object", "put", "s", "key", str(tmp_path))
    assert (directory.code, directory.err) == (1, f"fusefs: {tmp_path}: Is a directory\n")


def test_list_by_prefix(scope: str, fusefs: Fusefs) -> None:
    for key in ("a%b", "a_b", "axb", "dir/x", "dir/y"):
        fusefs(scope, "object", "put", "s", f"{key}=").ok()
    assert fusefs(scope, "object", "list", "s", "a%").ok() == b"a%b\n"
    assert fusefs(scope, "object", "list", "s", "a_").ok() == b"a_b\n"
    assert fusefs(scope, "object", "list", "s", "dir/").ok() == b"dir/x\ndir/y\n"
    assert fusefs(scope, "object", "list", "s", "z").ok() == b""


def test_list_as_json(scope: str, fusefs: Fusefs) -> None:
    assert json.loads(fusefs(scope, "object", "list", "s", "--json").ok()) == []
    fusefs(scope, "object", "put", "s", 'a"\n=123').ok()
    fusefs(scope, "object", "put", "s", os.fsdecode(b"z\xff=")).ok()
    first, second = json.loads(fusefs(scope, "object", "list", "s", "--json").ok())
    assert (first["key"], first["size"]) == ('a"\n', 3)
    assert first["mtime"].endswith("Z")
    assert (second["key"], second["key_base64"]) == (None, "ev8=")


def test_keys_that_are_not_utf8_go_in_and_out_as_bytes(scope: str, process: Process) -> None:
    assert process(scope, "object", "put", "s", b"k\xff\x01=v").returncode == 0
    assert process(scope, "object", "list", "s").stdout == b"k\xff\x01\n"
    assert process(scope, "object", "get", "s", b"k\xff\x01").stdout == b"v"


def test_what_is_not_there(scope: str, fusefs: Fusefs) -> None:
    for command in (["get", "s", "k"], ["delete", "s", "k"], ["get", "t", "k"], ["put", "t", "k=v"], ["list", "t"]):
        ended = fusefs(scope, "object", *command)
        assert ended.code == 3, command
        assert ended.err.startswith("fusefs: ")
        assert ended.err.count("\n") == 1
        assert ended.out == b""


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/../b", "x" * 256])
def test_wrong_keys(scope: str, fusefs: Fusefs, key: str) -> None:
    ended = fusefs(scope, "object", "put", "s", f"{key}=value")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


def test_a_value_over_the_limit(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEFS_MAX_OBJECT_SIZE", "10")
    fusefs("pipeline", "create", "p").ok()
    ended = fusefs("pipeline", "object", "put", "p", "k=0123456789a")
    assert (ended.code, "max_object_size" in ended.err) == (1, True)
    assert fusefs("pipeline", "object", "list", "p").ok() == b""


def test_reading_needs_a_store_and_makes_none(fusefs: Fusefs, tmp_path: Path) -> None:
    for command in (["get", "p", "k"], ["list", "p"], ["put", "p", "k=v"], ["delete", "p", "k"]):
        ended = fusefs("pipeline", "object", *command)
        assert (ended.code, "there is no store at" in ended.err) == (1, True)
    assert not (tmp_path / "objects.db").exists()


# Standard output


@pytest.fixture
def large(fusefs: Fusefs, tmp_path: Path) -> bytes:
    """The value of big in the run r."""
    content = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(content)
    fusefs("run", "start", "r").ok()
    fusefs("run", "object", "put", "r", "big", str(tmp_path / "big")).ok()
    return content


def test_get_ends_quietly_when_nobody_reads_on(large: bytes, environment: dict[str, str], process: Process) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = process("run", "object", "get", "r", "big", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_get_to_a_full_disk(large: bytes, process: Process) -> None:
    with open("/dev/full", "wb") as full:
        ended = process("run", "object", "get", "r", "big", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (1, b"fusefs: standard output: No space left on device\n")


def test_get_with_standard_output_closed(large: bytes, process: Process) -> None:
    ended = process("run", "object", "get", "r", "big", preexec_fn=lambda: os.close(1))
    assert (ended.returncode, ended.stderr) == (1, b"fusefs: standard output is closed\n")


def test_list_ends_quietly_when_nobody_reads_on(large: bytes, process: Process) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = process("run", "object", "list", "r", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")
