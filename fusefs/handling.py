"""What every request goes through: errors become errnos in this one place, and who has to wait lets others go on."""

import errno
import functools
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from pyfuse3 import FUSEError

from engine.errors import DamagedError, InternalError, StoreError
from fusefs.attributes import UnsupportedError
from fusefs.errnos import errno_of
from fusefs.rights import AccessError
from fusefs.state import StaleError

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, Any]])


def handler(function: Handler) -> Handler:
    """Let a request handler raise FUSEError only."""

    @functools.wraps(function)
    @types.coroutine
    def guarded(*arguments: Any) -> Generator[Any, Any, Any]:
        operations = arguments[0]
        operations._state.note_use()
        try:
            coroutine = function(*arguments)
            try:
                trap = coroutine.send(None)
            except StopIteration as done:
                return done.value  # as nearly always: it had to wait for nothing
            return (yield from operations._serving.go_on(coroutine, trap))
        except StaleError:
            raise FUSEError(errno.ESTALE) from None
        except AccessError:
            raise FUSEError(errno.EACCES) from None
        except UnsupportedError:
            raise FUSEError(errno.ENOTSUP) from None
        except StoreError as error:
            if isinstance(error, InternalError | DamagedError):
                log.error("%s: %s", function.__name__, error)
            raise FUSEError(errno_of(error)) from error
        except FUSEError:
            raise
        except Exception:
            log.exception("%s failed", function.__name__)
            raise FUSEError(errno.EIO) from None

    return cast(Handler, guarded)
