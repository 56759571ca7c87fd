"""What can go wrong in the store.

    StoreError
    ├── NotFoundError            ├── QuotaError
    ├── ExistsError              ├── StoreFullError
    ├── InvalidError             ├── OutOfSpaceError
    │   ├── NameTooLongError     ├── TooManyOpenError
    │   └── OpenError            ├── NoAttributeError
    ├── NotPermittedError        ├── ReadOnlyError
    ├── NotDirectoryError        ├── UnavailableError
    ├── IsDirectoryError         ├── TimedOutError
    ├── NotEmptyError            ├── DamagedError
    ├── TooLargeError            └── InternalError
    └── ReplacedError

The engine knows no errno: the mount and the command have one table each. A message says what was wrong
and, where somebody can do something about it, what.
"""


class StoreError(Exception):
    """Anything that the store refuses or fails to do. The store is left as it was."""


class NotFoundError(StoreError):
    """There is no such pipeline, run, object or directory."""


class ExistsError(StoreError):
    """The name is taken, and the caller did not ask to replace it."""


class InvalidError(StoreError):
    """A name, number, URL or option that can never be accepted."""


class NameTooLongError(InvalidError):
    """A part of a key is longer than 255 bytes."""


class OpenError(InvalidError):
    """The store cannot be opened: not a store, not ours, newer than this program, or out of reach."""


class NotPermittedError(StoreError):
    """The tree is fixed there, or the store does not keep this kind of file."""


class NotDirectoryError(StoreError):
    """A directory is needed, and this is not one."""


class IsDirectoryError(StoreError):
    """A directory stands where an object or a symlink is needed."""


class NotEmptyError(StoreError):
    """The directory, pipeline or run still holds something."""


class TooLargeError(StoreError):
    """The value is over the store's max_object_size."""


class ReplacedError(StoreError):
    """What has the name now is another object than the one that was opened, and not for the same users."""


class QuotaError(StoreError):
    """The values of a pipeline would be over its limit in bytes."""


class StoreFullError(StoreError):
    """The values of the store would be over its max_bytes."""


class OutOfSpaceError(StoreError):
    """The disk, or the content engine, is full."""


class TooManyOpenError(StoreError):
    """As many objects are open for writing as are allowed to be."""


class NoAttributeError(StoreError):
    """The extended attribute is not set."""


class ReadOnlyError(StoreError):
    """The store was opened for reading only."""


class UnavailableError(StoreError):
    """The store is held by somebody else for longer than we wait."""


class TimedOutError(StoreError):
    """It took longer than it may. Whether it happens after all is not known."""


class DamagedError(StoreError):
    """The disk has returned other bytes than were stored."""


class InternalError(StoreError):
    """The storage failed, or what it returned cannot be right."""


FAULTS = (OutOfSpaceError, UnavailableError, OpenError, DamagedError, InternalError)
"""Not the caller's doing: what failed so may succeed when it is done again."""
