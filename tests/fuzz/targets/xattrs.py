"""Extended attributes as they are kept in the store: a column of bytes, whatever is in it."""

from engine import xattrs
from engine.errors import ExistsError, InternalError, NoAttributeError, OutOfSpaceError
from tests.fuzz.checking import check_message
from tests.fuzz.source import Source

WORDS = (b"\x81\xc4\x06user.a\xc4\x01x", b"\x80", b"\xdf\xff\xff\xff\xff", b"\xc4", b"\xc5", b"\xc6", b"\x91", b"\xc0")
SEEDS = (b"\0\x06user.a\x01x\1\x06user.a\0\2\x06user.a\0", b"\7\x81\xc4\x06user.a\xc4\x01x", b"\7")
_RAW = 7


def run(data: bytes) -> None:
    """The first byte says whether the rest is such a column, or changes of one that is made from nothing."""
    source = Source(data)
    if source.below(8) == _RAW:
        _read(source.rest())
    else:
        _change(source)


def _read(packed: bytes) -> None:
    try:
        names = xattrs.names(packed)
    except InternalError as error:
        check_message(str(error))
        assert _is_refused(packed), "what cannot be read is changed"
        return
    for name in names:
        xattrs.get(packed, name)


def _is_refused(packed: bytes) -> bool:
    """Whether what cannot be read cannot be changed either."""
    try:
        xattrs.with_value(packed, b"user.a", b"")
    except InternalError:
        return True
    return False


def _change(source: Source) -> None:
    packed: bytes | None = None
    expected: dict[bytes, bytes] = {}
    while source:
        kind, name, value = source.below(4), source.name(), source.blob() * source.pick((1, 1, 16, 300))
        if kind < 2:
            try:
                packed = xattrs.with_value(packed, name, value, create=kind == 1)
                expected[name] = value
            except OutOfSpaceError:
                taken = sum(map(len, expected)) + sum(map(len, expected.values()))
                assert taken + len(value) + len(name) > xattrs.NODE_MAX_BYTES - 4096
            except ExistsError:
                assert name in expected
        else:
            try:
                packed = xattrs.without(packed, name)
                del expected[name]
            except NoAttributeError:
                assert name not in expected
        assert xattrs.names(packed) == sorted(expected)
        assert packed is None or len(packed) <= xattrs.NODE_MAX_BYTES
    for name, value in expected.items():
        assert xattrs.get(packed, name) == value
