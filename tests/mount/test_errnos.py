"""The table of errnos has every error of the engine."""

import errno
import inspect

import pytest

from engine import errors
from engine.errors import StoreError
from fusefs.errnos import ERRNO_OF, errno_of

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StoreError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_in_the_table(kind: type[StoreError]) -> None:
    """Everything refused has one errno, in one table."""
    assert kind in ERRNO_OF
    assert errno_of(kind("why")) == ERRNO_OF[kind]
    assert ERRNO_OF[kind] in errno.errorcode


def test_nothing_else_is_in_the_table() -> None:
    """The table has no entry that nobody can raise."""
    assert set(ERRNO_OF) == set(CLASSES)


def test_a_class_of_an_engine_of_somebody_else() -> None:
    """An error derived from one of ours has the errno of that one."""

    class QuotaError(errors.OutOfSpaceError):
        pass

    class OddError(StoreError):
        pass

    assert errno_of(QuotaError("why")) == errno.ENOSPC
    assert errno_of(OddError("why")) == errno.EIO


def test_no_errno_hides_success() -> None:
    """No error becomes 0."""
    assert all(number > 0 for number in ERRNO_OF.values())
