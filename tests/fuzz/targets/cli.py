"""The command line: all commands and options, any arguments, on a store and a directory that are there."""

import gc
import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import fusefs.daemon
import fusefs.status
from engine import config
from fusefs import cli, mountpoint
from fusefs.cli import output
from tests.fuzz.scratch import directory, empty
from tests.fuzz.source import Source
from tests.fuzz.stores import template

COMMANDS = (
    *(("pipeline", verb) for verb in ("create", "list", "delete", "set-limit")),
    *(("run", verb) for verb in ("start", "finish", "list")),
    *((kind, "object", verb) for kind in ("pipeline", "run") for verb in ("put", "get", "list", "delete")),
    *(("pipeline", "store", "put"), ("mount",), ("umount",), ("status",), ("compact",), ("docker-plugin",), ()),
)
_OPTIONS = (
    *(
        "--json",
        "--force",
        "--limit",
        "--store",
        "--config",
        "--help",
        "-h",
        "--version",
        "--debug",
        "--null",
        "-0",
        "--",
    ),
    *("-o", "--foreground", "--read-only", "--allow-other", "--umask", "--pipeline", "--run", "--leave-dead"),
    *("--pipeline-object-limit", "--run-object-expiry", "--max-object-size", "--max-open-writers", "--log-file"),
    *("--log-level", "--socket", "--directory", "--nonsense", "-x", "--for", "--json=x", "-", "---", "--limit="),
)
_WORDS = (
    *(
        "app",
        "42",
        "a",
        "b",
        "key",
        "key=value",
        "=",
        "a/b/c",
        "a//b",
        "/",
        ".",
        "..",
        "",
        "file",
        "absent",
        "dir",
        "-",
    ),
    *("0", "1", "2", "-1", "2147483648", "default", "\u0663", "\u00b2", "1e3", "512MiB", "022", "999", "debug", "INFO"),
    *("memory:", "sqlite:x.db", "sqlite://x", "sqlite:", "none:x", "other.db", "no/such.db", "dir/x.db", "objects.db"),
    *(
        "\udcff",
        "new\nline",
        "\x1b[31m",
        "\u202e",
        "x" * 200,
        "x" * 5000,
        "%s",
        "{}",
        "a\rb",
        "ro,pipeline=a",
        "umask=",
    ),
)
WORDS = tuple(os.fsencode(word) for word in (*_OPTIONS, *_WORDS) if 0 < len(word) < 64)
SEEDS = tuple(bytes([number, 2, 40, 41, 1]) * 3 for number in range(len(COMMANDS)))
DOCUMENTED = {0, 1, 2, 3, 4}
"""Exit codes in docs/operations.md, but for those of Ctrl-C and of output that nobody reads."""


def run(data: bytes) -> None:
    """Up to four commands on one store; each is a byte for its name and two for each argument, or any text."""
    source = Source(data)
    with _place():
        for _ in range(4):
            if not source:
                return
            words = [*source.pick(COMMANDS)]
            for _ in range(source.below(8)):
                words.append(_word(source))
            if source.below(16) == 15:
                words.insert(0, _word(source))
            check(words, invoke(words, source.blob()))


def _word(source: Source) -> str:
    kind = source.byte()
    if kind < 100:
        return _OPTIONS[kind % len(_OPTIONS)]
    return _inside(_WORDS[kind % len(_WORDS)] if kind < 220 else source.text().replace("\0", ""))


def _inside(word: str) -> str:
    """The same without a way out of the directory: many arguments are paths of what is read or made."""
    word = re.sub(r"~[^/]*", "~", word).replace("..", ". .") if "/" in word or "~" in word else word
    return re.sub(r"(?<![\w.-])/+", "./", word)


@contextmanager
def _place() -> Iterator[None]:
    """A directory with a store, a file and a directory in it, for a process that is asked to do everything in there."""
    top = empty("cli")
    (top / "objects.db").write_bytes(template())
    (top / "file").write_bytes(b"content")
    (top / "dir").mkdir()
    Path(directory(), "empty.toml").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FUSEFS_")}
    ours = {"HOME": str(top), "FUSEFS_STORE": str(top / "objects.db"), "FUSEFS_CONFIG": f"{directory()}/empty.toml"}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {**kept, **ours}, clear=True))
        # What would go on without us, leave the directory, or look at mounts that are not ours.
        stack.enter_context(mock.patch.object(fusefs.daemon, "run_in_background", return_value=None))
        stack.enter_context(mock.patch.object(fusefs.daemon, "run_in_foreground"))
        stack.enter_context(mock.patch.object(config, "_state_directory", return_value=str(top)))
        stack.enter_context(mock.patch.object(fusefs.status, "mounts", list))
        stack.enter_context(mock.patch.object(mountpoint, "_check_fuse"))
        # The descriptor behind sys.stdout is not the command's here.
        for module in (cli, output):
            stack.enter_context(mock.patch.object(module, "silence_stdout"))
        before = os.getcwd()
        os.chdir(top)
        stack.callback(os.chdir, before)
        stack.callback(gc.enable)
        yield


class Ended(NamedTuple):
    """How a command ended."""

    code: object
    out: bytes
    err: str


class _Input(io.BytesIO):
    """Standard input, with a descriptor as any other."""

    def fileno(self) -> int:
        return _null()


def _null() -> int:
    """A descriptor of nothing, for as long as the process lives."""
    if not _opened:
        _opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    return _opened[0]


_opened: list[int] = []


def invoke(words: list[str], stdin: bytes) -> Ended:
    """Run the command in this process, with streams of its own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=how) for how in ("strict", "backslashreplace"))
    streams: dict[str, Any] = {"stdin": io.TextIOWrapper(_Input(stdin)), "stdout": out, "stderr": err}
    code: object = None
    with mock.patch.multiple("sys", argv=["fusefs", *words], **streams), suppress(SystemExit):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
            raise
    for stream in (out, err):
        stream.flush()
    return Ended(code, out.buffer.getvalue(), err.buffer.getvalue().decode())


def check(words: list[str], ended: Ended) -> None:
    """A documented exit code, and where it is not 0 one line that says why, unless help or a traceback was wanted."""
    assert ended.code in DOCUMENTED, (words, ended)
    assert "this is a mistake in fusefs" not in ended.err, (words, ended)
    assert not ended.err.startswith("fusefs: unexpected"), (words, ended)
    if "--debug" in words[:1]:
        return
    assert "Traceback" not in ended.err, ended.err
    lines = ended.err.split("\n")[:-1]
    for line in lines:
        assert line.isprintable() or ended.err.startswith("Usage"), line
    if ended.code and not ended.err.startswith("Usage") and "status" not in words[:2]:
        assert len(lines) == 1, (words, ended)
        assert lines[0].startswith("fusefs: "), (words, ended)
