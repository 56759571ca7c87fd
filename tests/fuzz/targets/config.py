"""Settings: a TOML file, the environment and flags, whatever is in them."""

import os

from engine.config import Settings, load_settings
from engine.config_values import KEYS, MAX_BYTES, MAX_COUNT, STORE, Given
from engine.errors import InvalidError
from tests.fuzz.checking import check_message
from tests.fuzz.scratch import directory
from tests.fuzz.source import Source

WORDS = (
    *(
        b"[object_store]\n",
        b"[object_store.sqlite]\n",
        b"[object_store.memory]\n",
        b"[mount]\n",
        b'engine = "sqlite"\n',
    ),
    *(
        b"pipeline_object_limit = ",
        b"run_object_expiry = ",
        b'max_object_size = "512MiB"',
        b'path = "x"',
        b"nan",
        b"inf",
    ),
    *(
        b'log_level = "debug"\n',
        b'log_file = "x"\n',
        b"0x7fffffffffffffff",
        b"1e400",
        b'"""',
        b"'''",
        b"\\u0000",
        b"[[",
    ),
    *(b"1979-05-27T07:32:00Z", b"{a=1}", b"true", b"sqlite:", b"memory:", b"object_store.a.b.c.d = 1\n", b"\\ud800"),
)
SEEDS = (
    b'\0[object_store]\nengine = "memory"\npipeline_object_limit = 3\nmax_object_size = "5KiB"\n',
    b'\0[mount]\nlog_level="info"\n',
    b'\0[object_store.sqlite]\npath = "~/x.db"\n[mount]\nlog_file = "x.log"\n',
    b"\3\0\x08memory:x\1\x03512\2\x09sqlite:x\n",
)
_FLAGS = tuple(KEYS)
_VARIABLES = tuple(key.variable for key in KEYS.values() if key.variable)


def run(data: bytes) -> None:
    """The first byte says whether the rest is the file alone, or variables and flags, and then the file."""
    source = Source(data)
    environ = {"FUSEFS_CONFIG": os.path.join(directory(), "fusefs.toml"), "XDG_STATE_HOME": directory()}
    flags = []
    for _ in range(source.below(8)):
        if source.flag():
            environ[source.pick(_VARIABLES)] = source.text().replace("\0", "")
        else:
            flags.append(Given("flag", source.pick(_FLAGS), source.text()))
    with open(environ["FUSEFS_CONFIG"], "wb") as file:
        file.write(source.rest())
    try:
        settings = load_settings(flags, environ)
    except InvalidError as error:
        check_message(str(error))
        return
    _check(settings, stores=[given for given in flags if given.key == STORE])


def _check(settings: Settings, stores: list[Given]) -> None:
    store = settings.object_store
    for path in filter(None, (store.path, settings.log_file)):
        assert os.path.isabs(path), path
        assert "\0" not in path
        path.encode()
    for count in (store.pipeline_object_limit, store.run_object_expiry):
        assert count is None or 0 <= count <= MAX_COUNT
    assert store.max_object_size is None or 0 <= store.max_object_size <= MAX_BYTES
    assert store.engine in ("sqlite", "memory"), "no other is installed"
    assert all(isinstance(text, str) for pair in store.options.items() for text in pair)
    assert settings.log_level in ("debug", "info", "warning", "error")
    if stores and str(stores[-1].value).startswith("sqlite:"):
        assert store.engine == "sqlite"
