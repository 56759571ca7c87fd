"""The file in which the volume plugin remembers its volumes."""

import os

import msgspec

from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import Options
from fusefs.dockerplugin.state import State, StateFile, Volume, boot_id
from tests.fuzz.checking import check_message
from tests.fuzz.scratch import directory

WORDS = (
    *(
        b'"version":1',
        b'"boot":"x"',
        b'"volumes":{',
        b'"options":{',
        b'"kind":"pipeline"',
        b'"kind":"run"',
        b'"scope":"a"',
    ),
    *(
        b'"created":"2026-01-01T00:00:00Z"',
        b'"mounts":["1"]',
        b'"limit":3',
        b'"read_only":true',
        b'"mode":493',
        b"1e999",
    ),
    *(
        b'"uid":0',
        b'"remove":"objects"',
        b"\\ud800",
        b"\\u0000",
        b"[" * 64,
        b"-1",
        b"99999999999999999999",
        b'"../x"',
        b"null",
    ),
)
_STATE = State(
    version=1,
    boot="x",
    volumes={
        "a": Volume(options=Options(kind="pipeline", scope="a", limit=3), created="2026-01-01T00:00:00Z"),
        "b": Volume(
            options=Options(kind="run", scope="42", read_only=True, uid=1, gid=2, mode=0o755, remove="objects"),
            created="2026-01-01T00:00:00Z",
            mounts=frozenset({"1", "2"}),
        ),
    },
)
SEEDS = (msgspec.json.encode(_STATE), b'{"version": 2}', b"")


def run(data: bytes) -> None:
    """The whole file."""
    path = os.path.join(directory(), "volumes.json")
    with open(path, "wb") as written:
        written.write(data)
    try:
        volumes = StateFile(path).load()
    except VolumeError as error:
        check_message(str(error))
        return
    for name, volume in volumes.items():
        for part in (name, volume.options.scope):
            assert "/" not in part
            assert part not in ("", ".", "..")
    if len(volumes) < 3:  # each costs a sync
        _check_saved(volumes)


def _check_saved(volumes: dict[str, Volume]) -> None:
    """What was read can be written, and is the same when it is read again."""
    content = msgspec.json.encode(State(version=1, boot=boot_id(), volumes=volumes), order="deterministic")
    path = os.path.join(directory(), "saved.json")
    with open(path, "wb") as written:
        written.write(content)
    assert StateFile(path).load() == volumes
