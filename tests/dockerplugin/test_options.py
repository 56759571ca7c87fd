"""What the options of a volume may say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.names import check_scope_name
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import MAX_ID, MAX_MODE, Options, parse


def test_without_options_it_is_the_pipeline_of_its_name() -> None:
    assert parse("cache", {}) == Options(kind="pipeline", scope="cache")
    assert parse("cache", {"pipeline": "cache"}) == parse("cache", {})


def test_every_option() -> None:
    said = {"pipeline": "app", "limit": "0", "ro": "", "uid": "0", "gid": "4294967294", "mode": "2775"}
    assert parse("v", {**said, "remove": "objects"}) == Options(
        kind="pipeline",
        scope="app",
        limit=0,
        read_only=True,
        uid=0,
        gid=4294967294,
        mode=0o2775,
        remove="objects",
    )
    assert parse("v", {"run": "42"}) == Options(kind="run", scope="42")


@pytest.mark.parametrize("name", ["ro", "read-only", "readonly"])
@pytest.mark.parametrize(("value", "read_only"), [("", True), ("true", True), ("false", False)])
def test_read_only(name: str, value: str, read_only: bool) -> None:
    assert parse("v", {name: value}).read_only is read_only


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        ("v", {"size": "1"}, r"unknown option 'size': a volume takes pipeline=NAME or run=ID .* remove=objects$"),
        ("v", {"pipelin": "a"}, r"unknown option 'pipelin' \(did you mean pipeline\?\)"),
        ("v", {"pipeline": "a", "run": "b"}, "a pipeline or a run, not both"),
        ("v", {"run": "b", "limit": "1"}, "limit is for pipelines only"),
        ("v", {"pipeline": ""}, "invalid pipeline name ''"),
        ("v", {"pipeline": "../run/x"}, "invalid pipeline name '../run/x': it takes 1 to 128 of"),
        ("v", {"run": ".hidden"}, "invalid run name"),
        ("v" * 129, {}, "invalid volume name"),
        ("..", {"pipeline": "a"}, "invalid volume name"),
        ("", {"pipeline": "a"}, "invalid volume name"),
        ("a/b", {"pipeline": "a"}, "invalid volume name"),
        (
            "v",
            {"limit": "-1"},
            r"limit='-1' is not allowed: it takes a number of objects from 0 \(no limit\) to 2147483647",
        ),
        ("v", {"limit": "2147483648"}, "limit='2147483648' is not allowed"),
        ("v", {"limit": ""}, "limit='' is not allowed"),
        ("v", {"limit": "1_0"}, "limit='1_0' is not allowed"),
        ("v", {"limit": "٣"}, "limit='٣' is not allowed"),
        ("v", {"uid": "4294967295"}, "uid='4294967295' is not allowed: it takes a number from 0 to 4294967294"),
        ("v", {"gid": "root"}, "gid='root' is not allowed"),
        ("v", {"mode": "888"}, "mode='888' is not allowed: it takes an octal number from 0 to 7777"),
        ("v", {"mode": "17777"}, "mode='17777' is not allowed"),
        ("v", {"mode": "0o755"}, "mode='0o755' is not allowed"),
        ("v", {"ro": "yes"}, "ro='yes' is not allowed: it takes nothing, true or false"),
        ("v", {"ro": "", "readonly": "false"}, "ro and readonly say the same: give one of them"),
        ("v", {"remove": "all"}, r"remove='all' is not allowed: it takes keep .* or objects"),
        ("v", {"remove": "x" * 1000}, r"remove='x{110,120}\.\.\. is not allowed"),
    ],
)
def test_what_is_refused(volume: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        parse(volume, options)


_NAMES = st.sampled_from(["pipeline", "run", "limit", "ro", "read-only", "readonly", "uid", "gid", "mode", "remove"])
_TEXT = st.one_of(st.text(max_size=200), st.sampled_from(["", "0", "7", "755", "app", "true", "keep", "objects", ".."]))


@settings(max_examples=500)
@given(_TEXT, st.dictionaries(st.one_of(_NAMES, _TEXT), _TEXT, max_size=4))
def test_whatever_is_given_is_refused_or_sound(volume: str, options: dict[str, str]) -> None:
    try:
        parsed = parse(volume, options)
    except VolumeError:
        return
    check_scope_name("volume", volume.encode())
    check_scope_name(parsed.kind, parsed.scope.encode())
    assert parsed.limit is None or (parsed.kind == "pipeline" and 0 <= parsed.limit < 2**31)
    assert parsed.mode is None or 0 <= parsed.mode <= MAX_MODE
    assert all(number is None or 0 <= number <= MAX_ID for number in (parsed.uid, parsed.gid))
