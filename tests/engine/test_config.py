"""Settings come from a file, the environment and flags in that rising order, and a wrong one is refused by name."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Settings, default_path, load_settings
from engine.config_values import (
    ENGINE,
    KEYS,
    LOG_FILE,
    LOG_LEVEL,
    MAX_BYTES,
    MAX_COUNT,
    MAX_OBJECT_SIZE,
    MAX_PIPELINE_BYTES,
    MAX_STORE_BYTES,
    PATH,
    PIPELINE_OBJECT_LIMIT,
    RUN_OBJECT_EXPIRY,
    STORE,
    Given,
    checked,
    parse_size,
)
from engine.errors import InvalidError

Load = Callable[..., Settings]

GOFERS_BLOCK = """
[object_store]
engine = "sqlite"
pipeline_object_limit = 50
run_object_expiry = 50

[object_store.sqlite]
path = "/srv/gofer/object.db"
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads settings from a file's text, environment variables, and flags by key; as an ordinary user in tmp_path."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)

    def load(toml: str | None = None, flags: dict[str, str] | None = None, **environ: str) -> Settings:
        config = None
        if toml is not None:
            config = str(tmp_path / "fusefs.toml")
            Path(config).write_text(toml)
        environ = {"XDG_STATE_HOME": "/state", "XDG_CONFIG_HOME": str(tmp_path / "config"), **environ}
        given = [Given(f"flag --{key}", key, value) for key, value in (flags or {}).items()]
        return load_settings(given, environ, config)

    return load


def test_without_any_configuration(load: Load) -> None:
    settings = load()
    assert settings.object_store.engine == "sqlite"
    assert settings.object_store.path == "/state/fusefs/objects.db"
    assert settings.object_store.pipeline_object_limit is None
    assert settings.object_store.run_object_expiry is None
    assert settings.object_store.max_object_size is None
    assert settings.object_store.options == {}
    assert (settings.log_level, settings.log_file) == ("info", None)


def test_the_stores_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_path({}) == "/home/somebody/.local/state/fusefs/objects.db"
    assert default_path({"XDG_STATE_HOME": "not/absolute"}) == "/home/somebody/.local/state/fusefs/objects.db"
    assert default_path({"XDG_STATE_HOME": "/x"}) == "/x/fusefs/objects.db"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_path({"XDG_STATE_HOME": "/x"}) == "/var/lib/fusefs/objects.db"


def test_gofers_own_block(load: Load) -> None:
    store = load(GOFERS_BLOCK).object_store
    assert (store.engine, store.path) == ("sqlite", "/srv/gofer/object.db")
    assert (store.pipeline_object_limit, store.run_object_expiry) == (50, 50)


def test_the_rest_of_the_file(load: Load) -> None:
    sizes = 'max_object_size = "2MiB"\nmax_pipeline_bytes = "3MiB"\nmax_bytes = 4'
    settings = load(f'[object_store]\n{sizes}\n[mount]\nlog_level = "debug"\nlog_file = "my.log"')
    assert settings.object_store.max_object_size == 2 * 1024 * 1024
    assert (settings.object_store.max_pipeline_bytes, settings.object_store.max_bytes) == (3 * 1024 * 1024, 4)
    assert settings.log_level == "debug"


def test_flags_win_over_the_environment_and_that_over_the_file(load: Load) -> None:
    toml = "[object_store]\npipeline_object_limit = 1\nrun_object_expiry = 1\nmax_object_size = 1\n"
    store = load(
        toml,
        {PIPELINE_OBJECT_LIMIT: "3"},
        FUSEFS_PIPELINE_OBJECT_LIMIT="2",
        FUSEFS_RUN_OBJECT_EXPIRY="2",
    ).object_store
    assert (store.pipeline_object_limit, store.run_object_expiry, store.max_object_size) == (3, 2, 1)


def test_every_environment_variable(load: Load, tmp_path: Path) -> None:
    (tmp_path / "named.toml").write_text('[mount]\nlog_file = "/l"')
    settings = load(
        FUSEFS_CONFIG="named.toml",
        FUSEFS_ENGINE="memory",
        FUSEFS_STORE="/catalog.db",
        FUSEFS_PIPELINE_OBJECT_LIMIT="0",
        FUSEFS_RUN_OBJECT_EXPIRY="7",
        FUSEFS_MAX_OBJECT_SIZE="1GB",
        FUSEFS_MAX_PIPELINE_BYTES="2K",
        FUSEFS_MAX_BYTES="3",
        FUSEFS_LOG_LEVEL="WARNING",
    )
    store = settings.object_store
    assert (store.engine, store.path, store.pipeline_object_limit) == ("memory", "/catalog.db", 0)
    assert (store.run_object_expiry, store.max_object_size) == (7, 10**9)
    assert (store.max_pipeline_bytes, store.max_bytes) == (2048, 3)
    assert (settings.log_level, settings.log_file) == ("warning", "/l")


def test_empty_and_unknown_variables_are_none(load: Load) -> None:
    assert load(FUSEFS_STORE="", FUSEFS_ENGINE="", FUSEFS_CONFIG="", FUSEFS_SERVICE_HOST="10.0.0.1") == load()


def test_config_flag_wins_over_its_variable(load: Load) -> None:
    assert load("[mount]\nlog_level='error'", FUSEFS_CONFIG="/nonexistent").log_level == "error"


def test_the_usual_file_is_read_where_it_exists(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config/fusefs").mkdir(parents=True)
    (tmp_path / "config/fusefs/config.toml").write_text("[object_store]\nrun_object_expiry = 9")
    assert load().object_store.run_object_expiry == 9


def test_paths_of_a_file_start_in_its_directory(load: Load, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/f.toml").write_text('[object_store.sqlite]\npath = "a.db"\n[mount]\nlog_file = "../b.log"')
    settings = load(FUSEFS_CONFIG="etc/f.toml")
    assert settings.object_store.path == str(tmp_path / "etc/a.db")
    assert settings.log_file == str(tmp_path / "b.log")


def test_tilde_is_the_home_directory(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load('[object_store.sqlite]\npath = "~/a.db"').object_store.path == "/home/somebody/a.db"


# Names of stores


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/abs/x.db", "/abs/x.db"),
        ("x.db", "{here}/x.db"),
        ("sqlite:x.db", "{here}/x.db"),
        ("sqlite:/abs/x.db", "/abs/x.db"),
        ("sqlite:///abs/x.db", "/abs/x.db"),
        ("sqlite:with%20percent", "{here}/with%20percent"),
        ("./memory:", "{here}/memory:"),
        ("/odd:name", "/odd:name"),
        ("Odd:name", "{here}/Odd:name"),
        ("is:there", "{here}/is:there"),
    ],
)
def test_stores_in_a_file(load: Load, tmp_path: Path, name: str, path: str) -> None:
    (tmp_path / "is:there").touch()
    store = load(flags={STORE: name}).object_store
    assert (store.engine, store.path) == ("sqlite", path.format(here=tmp_path))


def test_a_store_of_an_installed_engine(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.config_values.engine_names", lambda: ["memory", "other", "sqlite"])
    toml = '[object_store.other]\nregion = "north"\nlocation = "nowhere"\n'
    here = load(toml, {STORE: "other:here"}).object_store
    assert here.engine == "other"
    assert here.options == {"region": "north", "location": "here"}
    there = load(toml, {STORE: "other:there"}).object_store
    assert len({here.path, there.path, load().object_store.path}) == 3
    assert here.path == load(toml, {STORE: "other:here"}).object_store.path


def test_options_of_the_engine_in_use_only(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.config_values.engine_names", lambda: ["memory", "other", "sqlite"])
    assert load('[object_store.other]\nregion = "north"').object_store.options == {}


def test_memory(load: Load) -> None:
    assert load(flags={STORE: "memory:"}).object_store.engine == "memory"


def test_a_plain_path_leaves_the_engine_and_a_url_replaces_it(load: Load) -> None:
    assert load(flags={STORE: "/x.db"}, FUSEFS_ENGINE="memory").object_store.engine == "memory"
    assert load(flags={STORE: "sqlite:/x.db"}, FUSEFS_ENGINE="memory").object_store.engine == "sqlite"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("s3:bucket", r"memory:, .*sqlite:.*\./s3:bucket"),
        ("sqlitte:x", r"did you mean sqlite\?"),
        ("sqlite:", "a path after sqlite:"),
        ("sqlite://", "sqlite:PATH or sqlite:///ABSOLUTE/PATH"),
        ("sqlite://host/x", "sqlite:PATH or sqlite:///ABSOLUTE/PATH"),
        ("memory:x", "nothing after memory:"),
        ("", "a path, sqlite:PATH"),
        ("a\udcff", "in UTF-8"),
        ("a\0b", "a path"),
    ],
)
def test_stores_that_cannot_be(load: Load, name: str, allowed: str) -> None:
    with pytest.raises(
        InvalidError, match=f"^flag --store: store = {re.escape(repr(name))} is not allowed: .*{allowed}"
    ):
        load(flags={STORE: name})


def test_one_source_cannot_name_two_engines(load: Load) -> None:
    with pytest.raises(InvalidError, match=r"FUSEFS_STORE: store = 'sqlite:/x'.*FUSEFS_ENGINE"):
        load(FUSEFS_ENGINE="memory", FUSEFS_STORE="sqlite:/x")


# What is refused, and how


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[object_store]\npipeline_object_limit = -1", "object_store.pipeline_object_limit = -1 .*whole number from 0"),
        ("[object_store]\npipeline_object_limit = true", "object_store.pipeline_object_limit = True"),
        ("[object_store]\npipeline_object_limit = 2147483648", "to 2147483647"),
        ("[object_store]\nrun_object_expiry = 1.5", "object_store.run_object_expiry = 1.5"),
        ("[object_store]\nrun_object_expiry = [1]", r"object_store.run_object_expiry = \[1\]"),
        ('[object_store]\nmax_object_size = "5 XB"', "object_store.max_object_size = '5 XB' .*512MiB"),
        ("[object_store]\nmax_object_size = -5", "object_store.max_object_size = -5"),
        ('[object_store]\nmax_pipeline_bytes = "5 XB"', "object_store.max_pipeline_bytes = '5 XB' .*512MiB"),
        ("[object_store]\nmax_bytes = -1", "object_store.max_bytes = -1 .*512MiB"),
        ("[object_store]\nengine = 5", "object_store.engine = 5"),
        ('[object_store]\nengine = "sqlit"', r"object_store.engine = 'sqlit' .*did you mean sqlite\?"),
        ('[object_store.sqlite]\npath = ""', "object_store.sqlite.path = '' .*the path of a file"),
        ('[object_store.sqlite]\npaht = "x"', r"unknown key object_store.sqlite.paht \(did you mean path\?\)"),
        ("[object_store]\nsqlite = 1", r"object_store.sqlite = 1 .*\[object_store.sqlite\]"),
        ("[object_store.memory]\na = 5", "object_store.memory.a = 5 .*a string"),
        ("[object_store]\nmemory = 5", r"object_store.memory = 5 .*\[object_store.memory\]"),
        ("[object_store]\npipline_object_limit = 5", r"did you mean pipeline_object_limit\?"),
        ('[object_store]\n"sqlite.path" = "x"', "unknown key object_store.sqlite.path"),
        ("[object_store.nobody]\na = '5'", "unknown key object_store.nobody"),
        ("[object_stor]", r"unknown key object_stor \(did you mean object_store\?\)"),
        ("object_store = 4", r"object_store = 4 .*\[object_store\]"),
        ("[mount]\nlog_level = 'loud'", "mount.log_level = 'loud' .*debug, info, warning or error"),
        ("[mount]\nlog_levl = 'info'", r"unknown key mount.log_levl \(did you mean log_level\?\)"),
        ("mount = []", r"mount = \[\] .*\[mount\]"),
        (f"[object_store]\nmax_bytes = 0x{'f' * 5000}", "object_store.max_bytes = .* is not allowed"),
        (f"[object_store]\nmax_bytes = [0x{'f' * 5000}]", "object_store.max_bytes = .* is not allowed"),
        (f"[object_store]\nmax_bytes = {'9' * 5000}", "not TOML"),
        ("x = [", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_wrong_files(load: Load, tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(InvalidError, match=f"^file {tmp_path}/fusefs.toml: .*{said}") as caught:
        load(toml)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["", "-data", "-wal", "-lock", "-puts-7"])
def test_a_log_in_a_file_of_the_store(load: Load, tmp_path: Path, ending: str) -> None:
    """Lines that are appended to a store damage it. The log that it has of itself is no file of that kind."""
    store, log = tmp_path / "a.db", tmp_path / f"sub/../a.db{ending}"
    with pytest.raises(InvalidError, match=r"^mount.log_file = .*store's own files"):
        load(f'[object_store.sqlite]\npath = "{store}"\n[mount]\nlog_file = "{log}"')
    assert load(f'[object_store.sqlite]\npath = "{store}"\n[mount]\nlog_file = "{store}.log"').log_file


@pytest.mark.parametrize("ending", ["", "-data"])
def test_a_log_that_is_another_name_of_a_file_of_the_store(load: Load, tmp_path: Path, ending: str) -> None:
    store, log = tmp_path / "a.db", tmp_path / "log"
    Path(f"{store}{ending}").touch()
    os.link(f"{store}{ending}", log)
    with pytest.raises(InvalidError, match=r"^mount.log_file = .*store's own files"):
        load(f'[object_store.sqlite]\npath = "{store}"\n[mount]\nlog_file = "{log}"')


def test_files_that_cannot_be_read(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"^file /nonexistent: .*No such file"):
        load(FUSEFS_CONFIG="/nonexistent")
    with pytest.raises(InvalidError, match="Is a directory"):
        load(FUSEFS_CONFIG=str(tmp_path))
    (tmp_path / "latin").write_bytes(b'[mount]\nlog_file = "\xff"')
    with pytest.raises(InvalidError, match="not TOML"):
        load(FUSEFS_CONFIG="latin")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FUSEFS_PIPELINE_OBJECT_LIMIT", "many"),
        ("FUSEFS_PIPELINE_OBJECT_LIMIT", "-1"),
        ("FUSEFS_RUN_OBJECT_EXPIRY", "1.5"),
        ("FUSEFS_MAX_OBJECT_SIZE", "8EiB"),
        ("FUSEFS_LOG_LEVEL", "loud"),
        ("FUSEFS_ENGINE", "s3"),
    ],
)
def test_wrong_variables(load: Load, variable: str, value: str) -> None:
    key = next(name for name, key in KEYS.items() if key.variable == variable)
    with pytest.raises(InvalidError, match=f"^environment variable {variable}: {key} = '{value}' is not allowed"):
        load(**{variable: value})


def test_a_wrong_value_is_refused_even_where_another_source_overrides_it(load: Load) -> None:
    with pytest.raises(InvalidError, match="FUSEFS_LOG_LEVEL"):
        load(flags={LOG_LEVEL: "info"}, FUSEFS_LOG_LEVEL="loud")


def test_a_long_value_is_not_repeated_in_full(load: Load) -> None:
    with pytest.raises(InvalidError) as caught:
        load(FUSEFS_LOG_LEVEL="x" * 10_000)
    assert len(str(caught.value)) < 400


# Values


@given(st.integers(0, MAX_COUNT))
def test_counts(number: int) -> None:
    assert checked(Given("", PIPELINE_OBJECT_LIMIT, number)) == number
    assert checked(Given("", RUN_OBJECT_EXPIRY, str(number))) == number


@given(st.integers(max_value=-1) | st.integers(min_value=MAX_COUNT + 1))
def test_numbers_that_are_no_counts(number: int) -> None:
    for value in (number, str(number)):
        with pytest.raises(InvalidError):
            checked(Given("", RUN_OBJECT_EXPIRY, value))


SIZES = [MAX_OBJECT_SIZE, MAX_PIPELINE_BYTES, MAX_STORE_BYTES]
_UNITS = {"": 1, "B": 1, "K": 2**10, "KiB": 2**10, "kB": 10**3, "M": 2**20, "mib": 2**20, "MB": 10**6, "GiB": 2**30}


@given(st.integers(0, 10**9), st.sampled_from(sorted(_UNITS)), st.sampled_from(["", " "]), st.sampled_from(SIZES))
def test_sizes(number: int, unit: str, space: str, key: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * _UNITS[unit]
    assert checked(Given("", key, f"{number}{unit}")) == number * _UNITS[unit]


@pytest.mark.parametrize(
    "text", ["", "K", "1.5G", "-1", "+1", "1 KiBB", "1e3", "0x10", "٣", "1\n2", "9" * 19, "9" * 5000]
)
def test_texts_that_are_no_sizes(text: str) -> None:
    assert parse_size(text) is None


@given(
    st.sampled_from(sorted(KEYS)),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.binary(),
)
def test_any_value_is_taken_or_refused_with_source_and_key(key: str, value: object) -> None:
    refused = ""
    taken = None
    try:
        taken = checked(Given("the source", key, value))
    except InvalidError as error:
        refused = str(error)
    if refused:
        assert refused.startswith(f"the source: {key} = ")
    elif key in (PATH, LOG_FILE):
        assert os.path.isabs(taken)
    elif key in (STORE, ENGINE, LOG_LEVEL):
        assert isinstance(taken, str)
    else:
        assert 0 <= taken <= (MAX_BYTES if key in SIZES else MAX_COUNT)
