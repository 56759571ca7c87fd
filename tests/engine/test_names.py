"""Which names of pipelines, runs and keys are accepted."""

import pytest

from engine.errors import InvalidError, NameTooLongError
from engine.names import PART_MAX_BYTES, check_part, check_scope_name, split_key


@pytest.mark.parametrize("name", [b"a", b"A", b"0", b"42", b"my-pipe.line_2", b"a..", b"a-", b"a" * 128])
def test_a_good_pipeline_or_run_name_is_returned(name: bytes) -> None:
    assert check_scope_name("pipeline", name) is name


@pytest.mark.parametrize(
    "name",
    [
        *(b"", b".", b"..", b".a", b"-a", b"_a", b"a" * 129),
        *(b"a b", b"a/b", b"a\0", b"a\n", b"\na", b"a%b", b"a*", "ä".encode(), "aä".encode(), b"a\xff"),
    ],
)
def test_a_bad_pipeline_or_run_name_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidError) as raised:
        check_scope_name("run", name)
    assert str(raised.value).startswith("invalid run name ")
    assert "A-Z a-z 0-9 . _ -" in str(raised.value)
    assert not isinstance(raised.value, NameTooLongError)


def test_a_refused_name_is_shown_readably() -> None:
    with pytest.raises(InvalidError, match=r"invalid pipeline name 'a\\\\xff'"):
        check_scope_name("pipeline", b"a\xff")


@pytest.mark.parametrize("part", [b"a", b" ", b"...", b".a", b"a%_*?[", b"\n", b"\xff\xfe", "日本".encode(), b"-"])
def test_a_part_of_a_key_is_any_bytes(part: bytes) -> None:
    assert check_part(part) is part


@pytest.mark.parametrize("part", [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\0"])
def test_a_bad_part_of_a_key_is_refused(part: bytes) -> None:
    with pytest.raises(InvalidError, match=r"^invalid part ") as raised:
        check_part(part)
    assert not isinstance(raised.value, NameTooLongError)


def test_a_part_of_a_key_has_at_most_255_bytes() -> None:
    assert PART_MAX_BYTES == 255
    longest = b"a" * 255
    assert check_part(longest) is longest
    with pytest.raises(NameTooLongError, match="has 256 bytes, and 255 is the most"):
        check_part(longest + b"a")


def test_the_limit_counts_bytes_not_characters() -> None:
    with pytest.raises(NameTooLongError):
        check_part("ä".encode() * 128)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (b"a", [b"a"]),
        (b"a/b/c", [b"a", b"b", b"c"]),
        (b"a" * 255 + b"/" + b"b" * 255, [b"a" * 255, b"b" * 255]),
        (b"\xff/%", [b"\xff", b"%"]),
        (b"/".join([b"d"] * 1000), [b"d"] * 1000),
    ],
)
def test_a_key_is_split_at_its_slashes(key: bytes, parts: list[bytes]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize("key", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"a/.", b"../a", b"a/../b", b"a/\0/b"])
def test_a_bad_key_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidError):
        split_key(key)


def test_one_part_too_long_refuses_the_key() -> None:
    with pytest.raises(NameTooLongError):
        split_key(b"a/" + b"b" * 256)
