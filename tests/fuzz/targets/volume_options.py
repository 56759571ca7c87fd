"""What `docker volume create -o` may say."""

from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import parse
from fusefs.dockerplugin.scopes import path_of
from tests.fuzz.checking import check_message
from tests.fuzz.source import Source

WORDS = (
    b"pipeline",
    b"run",
    b"limit",
    b"ro",
    b"read-only",
    b"uid",
    b"gid",
    b"mode",
    b"remove",
    b"objects",
    b"keep",
    b"true",
)
SEEDS = (
    b"\x05cache\x08pipeline\x01a\x05limit\x013\x02ro\x00",
    b"\x01v\x03run\x0242\x06remove\x07objects\x04mode\x040755\x03uid\x041000",
)


def run(data: bytes) -> None:
    """A name, then names and values of options, each behind its length."""
    source = Source(data)
    name = source.blob().decode("utf-8", "replace")
    given: dict[str, str] = {}
    while source and len(given) < 20:
        given[source.blob().decode("utf-8", "replace")] = source.blob().decode("utf-8", "replace")
    try:
        options = parse(name, given)
    except VolumeError as error:
        check_message(str(error))
        return
    assert path_of("/top", options).count("/") == 3, "never a path that leads out of where volumes are"
    assert options.scope not in (".", "..")
    # What it says of itself is what it was told: Docker shows it, and people type it again.
    said = dict(pair.partition("=")[::2] for pair in str(options).split(", "))
    assert parse(name, said) == options
