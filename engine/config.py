"""Settings: what a TOML file, the environment and the command's flags say, in that rising order of precedence.

Every value is checked where it was given, also one that a later source overrides, and refused with its source,
its key and what is allowed. The file, all of it optional:

    [object_store]
    engine = "sqlite"               # or the name of an installed engine
    pipeline_object_limit = 50      # 0: no limit
    run_object_expiry = 50          # 0: runs never expire
    max_object_size = "512MiB"      # or a number of bytes; 0: no limit
    max_pipeline_bytes = "10GiB"    # of all values of a pipeline
    max_bytes = "100GiB"            # of all values
    durability = "normal"           # full: all that was acknowledged survives a power cut, not only what was synced
    [object_store.sqlite]
    path = "/srv/objects.db"        # relative to the file's directory, ~ is the home directory
    [object_store.NAME]             # strings that the engine NAME understands
    [mount]
    log_level = "info"              # debug, info, warning, error
    log_file = "/var/log/fusefs.log"
    request_timeout = 60            # seconds

A store is named by FUSEFS_STORE or --store in one of these ways:

    PATH, sqlite:PATH, sqlite:///ABSOLUTE/PATH    a store in one file
    memory:                                       gone when its process ends
    NAME:LOCATION                                 an installed engine, told LOCATION as its option "location"

What starts like a known engine's name and a colon is always such a URL (`./memory:` is a file); any other word
before a colon is an error unless a file of exactly that name exists. A plain PATH leaves the engine as it is
configured; a URL replaces engine and path together. Nothing in a URL is percent-decoded.

An empty environment variable counts as unset, and FUSEFS_* variables that are not ours are ignored: container
platforms set such names on their own (FUSEFS_SERVICE_HOST), and they must not stop a program.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from engine.config_values import (
    DURABILITY,
    ENGINE,
    KEYS,
    LOG_FILE,
    LOG_LEVEL,
    MAX_OBJECT_SIZE,
    MAX_OPEN_WRITERS,
    MAX_PIPELINE_BYTES,
    MAX_STORE_BYTES,
    PATH,
    PIPELINE_OBJECT_LIMIT,
    REQUEST_TIMEOUT,
    RUN_OBJECT_EXPIRY,
    STORE,
    Durability,
    Given,
    LogLevel,
    absolute,
    checked,
    is_engine,
    nearest,
    refusal,
    shown,
)
from engine.errors import InvalidError
from engine.registry import EMBEDDED, engine_names
from engine.sqlite.names import is_of_store


class ObjectStoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which store, and what it is told. None: not set here, the store keeps what it was told last."""

    path: str
    """The file of the catalog (and, with the engine sqlite, of everything): absolute."""
    engine: str = EMBEDDED
    pipeline_object_limit: int | None = None
    run_object_expiry: int | None = None
    max_object_size: int | None = None
    max_pipeline_bytes: int | None = None
    max_bytes: int | None = None
    durability: Durability = "normal"
    """What survives a power cut: with "full" all that was acknowledged, else what was synced."""
    options: dict[str, str] = {}
    """The engine's own, for engines other than sqlite."""


DEFAULT_OPEN_WRITERS = 16_384


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All there is to set."""

    object_store: ObjectStoreSettings
    log_level: LogLevel = "info"
    log_file: str | None = None
    """Absolute; None: beside the store's file."""
    request_timeout: float = 60.0
    """The seconds within which a mount answers a request."""
    max_open_writers: int = DEFAULT_OPEN_WRITERS
    """Files that one mount has open for writing at once; 0: no limit."""


_MOUNT_KEYS = ["log_level", "log_file", "request_timeout", "max_open_writers"]
_LIMITS = ["pipeline_object_limit", "run_object_expiry", "max_object_size", "max_pipeline_bytes", "max_bytes"]
_OBJECT_STORE_KEYS = ["engine", "durability", *_LIMITS]
_URL = re.compile(r"([a-z][a-z0-9+._-]*):(.*)", re.DOTALL)


def load_settings(
    flags: Iterable[Given] = (), environ: Mapping[str, str] = os.environ, config: str | None = None
) -> Settings:
    """Read and check everything. `config` is the value of --config. Raises InvalidError."""
    tables: dict[str, dict[str, str]] = {}
    layers = [list(_from_file(config, environ, tables)), list(_from_environment(environ)), list(flags)]
    values: dict[str, Any] = {}
    for layer in layers:
        for given in layer:
            value = checked(given)
            if given.key == STORE:
                _apply_store(given, value, values, environ, tables)
            else:
                values[given.key] = value
        _refuse_contradiction(layer)
    engine = values.get(ENGINE, EMBEDDED)
    path = values.get(PATH) or default_path(environ)
    return Settings(
        object_store=ObjectStoreSettings(
            path=path,
            engine=engine,
            pipeline_object_limit=values.get(PIPELINE_OBJECT_LIMIT),
            run_object_expiry=values.get(RUN_OBJECT_EXPIRY),
            max_object_size=values.get(MAX_OBJECT_SIZE),
            max_pipeline_bytes=values.get(MAX_PIPELINE_BYTES),
            max_bytes=values.get(MAX_STORE_BYTES),
            durability=values.get(DURABILITY, "normal"),
            options=tables.get(engine, {}),
        ),
        log_level=values.get(LOG_LEVEL, "info"),
        log_file=_log_beside(path, values.get(LOG_FILE)),
        request_timeout=values.get(REQUEST_TIMEOUT, 60.0),
        max_open_writers=values.get(MAX_OPEN_WRITERS, DEFAULT_OPEN_WRITERS),
    )


def _log_beside(store: str, log: str | None) -> str | None:
    """Return the path of the log, which is to leave the store's files alone."""
    if log is not None and is_of_store(log, store):
        raise InvalidError(f"{LOG_FILE} = {shown(log)} is a name for the store's own files: log to another")
    return log


def default_path(environ: Mapping[str, str] = os.environ) -> str:
    """The store's file when nobody names one."""
    return os.path.join(_state_directory(environ), "objects.db")


# Stores


def _apply_store(
    given: Given, text: str, values: dict[str, Any], environ: Mapping[str, str], tables: dict[str, dict[str, str]]
) -> None:
    """Set what the name of a store says: its path alone, or engine, path and location."""
    scheme, rest = _split_url(given, text)
    if scheme is None:
        values[PATH] = absolute(text, given.directory)
        return
    values[ENGINE] = scheme
    if scheme == EMBEDDED:
        values[PATH] = absolute(_sqlite_path(given, rest), given.directory)
        return
    if scheme == "memory" and rest:
        raise refusal(given, "nothing after memory:")
    import hashlib  # 10 ms, for such stores alone

    # Each location has a catalog of its own: two of them in one would mix their names.
    digest = hashlib.sha256(os.fsencode(rest)).hexdigest()[:16]
    values[PATH] = os.path.join(_state_directory(environ), f"{scheme}-{digest}.db")
    tables[scheme] = {**tables.get(scheme, {}), "location": rest}


def _split_url(given: Given, text: str) -> tuple[str | None, str]:
    found = _URL.fullmatch(text)
    if found is None:
        return None, text
    scheme, rest = found.groups()
    if is_engine(scheme):
        return scheme, rest
    if os.path.lexists(os.path.join(given.directory, text)):
        return None, text
    names = engine_names()
    schemes = ", ".join(f"{name}:" for name in names)
    raise refusal(given, f"a path or one of {schemes}{nearest(scheme, names)}; for a file of this name write ./{text}")


def _sqlite_path(given: Given, rest: str) -> str:
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise refusal(given, "sqlite:PATH or sqlite:///ABSOLUTE/PATH")
    if not rest:
        raise refusal(given, "a path after sqlite:")
    return rest


# Sources


def _xdg(environ: Mapping[str, str], variable: str, otherwise: str) -> str:
    # platformdirs would do this, for 10 ms of each start. A relative path counts as unset: so says the standard.
    base = environ.get(variable, "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser(otherwise), "fusefs")


def _state_directory(environ: Mapping[str, str]) -> str:
    return "/var/lib/fusefs" if os.geteuid() == 0 else _xdg(environ, "XDG_STATE_HOME", "~/.local/state")


def _config_file(config: str | None, environ: Mapping[str, str]) -> str | None:
    """The file to read: one that was named must exist, the usual one may be missing."""
    named = config or environ.get("FUSEFS_CONFIG")
    if named:
        return absolute(named, "")
    usual = "/etc/fusefs.toml"
    if os.geteuid() != 0:
        usual = os.path.join(_xdg(environ, "XDG_CONFIG_HOME", "~/.config"), "config.toml")
    return usual if os.path.exists(usual) else None


def _from_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    for name, key in KEYS.items():
        if key.variable and environ.get(key.variable):
            yield Given(f"environment variable {key.variable}", name, environ[key.variable])


def _refuse_contradiction(layer: list[Given]) -> None:
    """Of an engine and a store's URL from one source, neither can win."""
    engine = next((given for given in layer if given.key == ENGINE), None)
    store = next((given for given in layer if given.key == STORE), None)
    if engine and store:
        scheme, _ = _split_url(store, str(store.value))
        if scheme not in (None, engine.value):
            raise refusal(store, f"a store of the engine {engine.value}, which {engine.source} asks for")


def _from_file(config: str | None, environ: Mapping[str, str], tables: dict[str, dict[str, str]]) -> Iterator[Given]:
    path = _config_file(config, environ)
    if path is None:
        return
    import tomllib  # for those that have a file

    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise InvalidError(f"file {path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"file {path}: not TOML: {error}") from None
    source, directory = f"file {path}", os.path.dirname(path)
    _refuse_unknown(source, "", content, ["object_store", "mount"])
    for name, value in _table(source, "mount", content.get("mount", {})).items():
        _refuse_unknown(source, "mount.", {name: value}, _MOUNT_KEYS)
        yield Given(source, f"mount.{name}", value, directory)
    for name, value in _table(source, "object_store", content.get("object_store", {})).items():
        if name in _OBJECT_STORE_KEYS:
            yield Given(source, f"object_store.{name}", value, directory)
        elif name == EMBEDDED:
            sqlite = _table(source, "object_store.sqlite", value)
            _refuse_unknown(source, "object_store.sqlite.", sqlite, ["path"])
            if "path" in sqlite:
                yield Given(source, PATH, sqlite["path"], directory)
        else:
            tables[name] = _engine_table(source, name, value)


def _table(source: str, key: str, table: object) -> dict[str, object]:
    if not isinstance(table, dict):
        raise refusal(Given(source, key, table), f"a table: [{key}]")
    return table


def _engine_table(source: str, name: str, value: object) -> dict[str, str]:
    """The options of a third-party engine; with any other name, a key that nobody knows."""
    if not isinstance(value, dict) or not is_engine(name):
        _refuse_unknown(source, "object_store.", {name: value}, [*_OBJECT_STORE_KEYS, *engine_names()])
        raise refusal(Given(source, f"object_store.{name}", value), f"a table: [object_store.{name}]")
    for option, text in value.items():
        if not isinstance(text, str):
            raise refusal(Given(source, f"object_store.{name}.{option}", text), "a string")
    return value


def _refuse_unknown(source: str, prefix: str, content: Mapping[str, Any], known: list[str]) -> None:
    for name in content:
        if name not in known:
            names = ", ".join(known)
            raise InvalidError(f"{source}: unknown key {prefix}{name}{nearest(name, known)}: it takes {names}")
