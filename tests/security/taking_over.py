"""Bob's private object takes over a name that Alice has open."""

import os
from pathlib import Path

from tests.posix.twins import User

SECRET = "secret of bob"
OPENED = {
    "new": "os.O_CREAT",
    "new to append": "os.O_CREAT | os.O_APPEND",
    "exclusive": "os.O_CREAT | os.O_EXCL",
    "edited": "0",
    "overwritten": "os.O_TRUNC",
    "appended": "os.O_APPEND",
}
TAKES = {
    "rename": "os.rename(path + '.bob', path)",
    "remove and rename": "os.path.exists(path) and os.unlink(path); os.rename(path + '.bob', path)",
}


def open_by_alice(users: dict[str, User], path: Path, how: str) -> None:
    """She has a key of her own open, or one that everybody may write."""
    if "CREAT" not in OPENED[how]:
        users["bob"]("open(path, 'w').write('public'); os.chmod(path, 0o666)", path=str(path))
    assert users["alice"](f"fd = os.open(path, os.O_RDWR | {OPENED[how]}, 0o666)", path=str(path)) is None


def take_over(users: dict[str, User], path: Path, take: str = TAKES["rename"]) -> os.stat_result:
    bob = users["bob"]
    bob("secret = os.open(path + '.bob', os.O_WRONLY | os.O_CREAT, 0o600)", path=str(path))
    bob("os.write(secret, text.encode()); os.close(secret)", text=SECRET)
    assert bob(take) is None
    return path.stat()


def assert_untouched(path: Path, before: os.stat_result) -> None:
    after = path.stat()
    assert path.read_text() == SECRET
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)
