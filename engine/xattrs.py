"""Extended attributes of a node, packed into one column: they move, and go, with the row."""

import msgspec

from engine.errors import ExistsError, InternalError, NoAttributeError, OutOfSpaceError

NODE_MAX_BYTES = 64 * 1024
"""What the attributes of one node may take in all: XATTR_SIZE_MAX, the kernel's limit for one of them."""

_decode = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
_encode = msgspec.msgpack.Encoder().encode


def names(packed: bytes | None) -> list[bytes]:
    return sorted(_unpack(packed))


def get(packed: bytes | None, name: bytes) -> bytes:
    """The value of one attribute. Raises NoAttributeError."""
    try:
        return _unpack(packed)[name]
    except KeyError:
        raise NoAttributeError("the attribute is not set") from None


def with_value(packed: bytes | None, name: bytes, value: bytes, *, create: bool = False) -> bytes:
    """The attributes with one set. Raises ExistsError with `create`, and OutOfSpaceError (xattr(7): ENOSPC)."""
    attributes = _unpack(packed)
    if create and name in attributes:
        raise ExistsError("the attribute is set already")
    attributes[name] = value
    result = _encode(attributes)
    if len(result) > NODE_MAX_BYTES:
        raise OutOfSpaceError(f"the extended attributes of one file may take {NODE_MAX_BYTES} bytes in all")
    return result


def without(packed: bytes | None, name: bytes) -> bytes | None:
    """The attributes without one. Raises NoAttributeError."""
    attributes = _unpack(packed)
    if attributes.pop(name, None) is None:
        raise NoAttributeError("the attribute is not set")
    return _encode(attributes) if attributes else None


def _unpack(packed: bytes | None) -> dict[bytes, bytes]:
    """Raises InternalError for what nobody has packed."""
    try:
        return {} if packed is None else _decode(packed)
    except msgspec.DecodeError as error:
        raise InternalError(f"extended attributes in the store are damaged: {error}") from error
