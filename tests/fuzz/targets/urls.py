"""What names a store, what follows -o, masks and sizes: text that is taken apart at its colons, commas and signs."""

import click

from engine.config import load_settings
from engine.config_values import MAX_BYTES, STORE, Given, parse_size
from engine.errors import InvalidError
from fusefs.cli.mount_options import parse, parse_umask
from tests.fuzz.checking import check_message
from tests.fuzz.scratch import directory

WORDS = (
    *(
        b"sqlite:",
        b"memory:",
        b"sqlite:///",
        b"sqlite://",
        b"./",
        b"~",
        b"~root/",
        b"dirstore:",
        b"file://",
        b"%2e",
        b"\0",
    ),
    *(
        b"ro",
        b"rw",
        b"allow_other",
        b"pipeline=",
        b"run=",
        b"umask=022",
        b"leave_dead",
        b"max_object_size=",
        b"log_file=",
    ),
    *(b"defaults", b"x-systemd.automount", b"512MiB", b"9223372036854775807", b"8E", b"0x", b"\xc2\xb2", b"\xd9\xa1"),
)
SEEDS = (b"sqlite:///a/b", b"memory:", b"ro,pipeline=a,run=b,umask=022,log_file=x", b"512MiB", b"~/x", b"dirstore:/x")


def run(data: bytes) -> None:
    """All of it, as each of the things that it may be."""
    text = data.decode("utf-8", "surrogateescape")
    _store(text)
    _options(text)
    _size(text)
    _umask(text)


def _store(text: str) -> None:
    environ = {"FUSEFS_CONFIG": "/dev/null", "XDG_STATE_HOME": directory()}
    try:
        store = load_settings([Given("flag --store", STORE, text)], environ).object_store
    except InvalidError as error:
        check_message(str(error))
        return
    assert store.path.startswith("/")
    assert "\0" not in store.path
    if text.startswith("sqlite:/") and not text.startswith("sqlite://"):
        assert store.engine == "sqlite"
    if store.engine == "memory":
        assert text == "memory:", "nothing else is the engine memory"


def _options(text: str) -> None:
    try:
        parsed = parse([text])
    except click.UsageError as error:
        check_message(error.format_message())
        return
    given = {option.partition("=")[0] for option in text.split(",")}
    assert parsed.allow_other == ("allow_other" in given)
    assert len(parsed.settings) <= len(text)
    if parsed.read_only is not None:
        assert given & {"ro", "rw"}


def _size(text: str) -> None:
    size = parse_size(text)
    assert size is None or 0 <= size <= MAX_BYTES


def _umask(text: str) -> None:
    try:
        mask = parse_umask(text)
    except click.UsageError as error:
        check_message(error.format_message())
        return
    assert mask is not None
    assert 0 <= mask <= 0o777
