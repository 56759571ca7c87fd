"""The one table of what a system call returns for each error of the engine."""

import errno

from engine import errors

ERRNO_OF: dict[type[errors.StoreError], int] = {
    errors.NotFoundError: errno.ENOENT,
    errors.ExistsError: errno.EEXIST,
    errors.NameTooLongError: errno.ENAMETOOLONG,
    errors.InvalidError: errno.EINVAL,
    errors.OpenError: errno.EIO,
    errors.NotPermittedError: errno.EPERM,
    errors.NotDirectoryError: errno.ENOTDIR,
    errors.IsDirectoryError: errno.EISDIR,
    errors.NotEmptyError: errno.ENOTEMPTY,
    errors.TooLargeError: errno.EFBIG,
    errors.ReplacedError: errno.ESTALE,
    errors.OutOfSpaceError: errno.ENOSPC,
    errors.StoreFullError: errno.ENOSPC,
    errors.QuotaError: errno.EDQUOT,
    errors.TooManyOpenError: errno.ENFILE,
    errors.NoAttributeError: errno.ENODATA,
    errors.ReadOnlyError: errno.EROFS,
    # The store is locked by somebody else for longer than we wait: nothing that a program could act upon by its errno.
    errors.UnavailableError: errno.EIO,
    # ETIMEDOUT would be clearer, but read(2), write(2) and close(2) do not have it on disks.
    errors.TimedOutError: errno.EIO,
    errors.DamagedError: errno.EIO,
    errors.InternalError: errno.EIO,
    errors.StoreError: errno.EIO,
}


def errno_of(error: errors.StoreError) -> int:
    """The errno for an error; that of the nearest class above it in the table."""
    for kind in type(error).__mro__:
        if kind in ERRNO_OF:
            return ERRNO_OF[kind]
    raise AssertionError("StoreError itself is in the table")
