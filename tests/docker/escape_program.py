"""Run in a container: tries to get out of the directory that it was given, and prints what came of each attempt.

Nothing but the standard library is there. An attempt that reads the secret, or changes something outside, has "reached"
it; the errno of the others is told.
"""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable

top, host_path, secret = sys.argv[1:4]
numbers = [int(word) for word in sys.argv[4:]]
libc = ctypes.CDLL(None, use_errno=True)
found: dict[str, str] = {}
FILEID_INO64_GEN = 0x81


def attempt(what: str, step: Callable[[], object], expected: object = None) -> None:
    """`step` returns what it read, or True when it did what should be impossible."""
    try:
        result = step()
    except OSError as error:
        found[what] = errno.errorcode[error.errno or 0]
        return
    if expected is not None:
        found[what] = "as expected" if result == expected else f"{result!r}"
    else:
        found[what] = "reached" if result is True or (isinstance(result, str) and secret in result) else "nothing"


def call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read(path: str, **how: int) -> str:
    descriptor = os.open(path, os.O_RDONLY, **how)
    try:
        return os.read(descriptor, 1000).decode()
    finally:
        os.close(descriptor)


def through_a_symlink(target: str) -> str:
    link = f"{top}/mine.link"
    os.symlink(target, link)
    try:
        return read(link)
    finally:
        os.unlink(link)


# What works.
attempt("its own key", lambda: read(f"{top}/secret"), "its own")
attempt("a symlink inside", lambda: through_a_symlink("secret"), "its own")

# By name.
outside = ["other/secret", "pipeline/other/secret", "run/7/secret"]
for ups in range(1, 5):
    for name in outside:
        path = "../" * ups + name
        attempt(f"path {path}", lambda path=path: read(f"{top}/{path}"))
        attempt(f"symlink {path}", lambda path=path: through_a_symlink(path))
for name in ("pipeline/other/secret", "run/7/secret"):
    attempt(f"the host's path of {name}", lambda name=name: read(f"{host_path}/{name}"))
    attempt(f"symlink to the host's path of {name}", lambda name=name: through_a_symlink(f"{host_path}/{name}"))
    attempt(f"/proc/1/root of {name}", lambda name=name: read(f"/proc/1/root/{host_path}/{name}"))

# By descriptor.
directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
for ups in range(1, 5):
    path = "../" * ups
    attempt(f"openat {path}", lambda path=path: read(f"{path}pipeline/other/secret", dir_fd=directory))
    attempt(f"/proc/self/fd {path}", lambda path=path: read(f"/proc/self/fd/{directory}/{path}other/secret"))
attempt("a symlink to /proc/self/fd", lambda: through_a_symlink(f"/proc/self/fd/{directory}/../other/secret"))


# By handle.
class FileHandle(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint32), ("kind", ctypes.c_int32), ("words", ctypes.c_uint32 * 3))


def by_handle(number: int) -> str:
    """As the kernel would make the handle of this inode: it need not be asked, and is not allowed to be."""
    handle = FileHandle(12, FILEID_INO64_GEN, (number >> 32, number & 0xFFFFFFFF, 0))
    descriptor = call(libc.open_by_handle_at(directory, ctypes.byref(handle), os.O_RDONLY))
    if os.path.isdir(f"/proc/self/fd/{descriptor}"):
        return read("secret", dir_fd=descriptor)
    return os.read(descriptor, 1000).decode()


attempt("its own key by handle", lambda: by_handle(os.stat(f"{top}/secret").st_ino), "its own")
for number in numbers:
    attempt(f"by handle {number}", lambda number=number: by_handle(number))

# By renaming and linking.
open(f"{top}/mine", "w").close()
os.mkdir(f"{top}/mine.d")


def moved(step: Callable[[], object]) -> bool:
    step()
    return True


for target in ("../other/mine", "../../pipeline/other/mine", "../../run/7/mine", "/tmp/mine"):
    goal = target if target.startswith("/") else f"{top}/{target}"
    if target != "/tmp/mine":
        attempt(f"rename to {target}", lambda goal=goal: moved(lambda: os.rename(f"{top}/mine", goal)))
    attempt(f"link to {target}", lambda goal=goal: moved(lambda: os.link(f"{top}/mine", goal)))
attempt("rename out of it", lambda: moved(lambda: os.rename(f"{top}/mine.d", "/tmp/mine.d")))
attempt("rename itself", lambda: moved(lambda: os.rename(top, f"{top}/../mine")))
attempt("a pipeline beside it", lambda: moved(lambda: os.mkdir("/top/pipeline/new")))
attempt("a link of the secret", lambda: moved(lambda: os.link(f"{top}/../other/secret", f"{top}/mine.secret")))


# By mounting, and by another root.
def mounted(source: str, kind: bytes, flags: int) -> bool:
    goal = os.fsencode(f"{top}/mine.d")
    return moved(lambda: call(libc.mount(os.fsencode(source), goal, kind, flags, None)))


attempt("mount of what is above", lambda: mounted(f"{top}/..", b"", 4096))
attempt("mount of the host's directory", lambda: mounted(host_path, b"", 4096))
attempt("mount of a tmpfs", lambda: mounted("none", b"tmpfs", 0))
attempt("unmount", lambda: moved(lambda: call(libc.umount2(os.fsencode(top), 2))))
for name, flag in (("mount", 0x20000), ("user and mount", 0x10020000)):
    attempt(f"unshare {name} namespaces", lambda flag=flag: moved(lambda: call(libc.unshare(flag))))
attempt("/dev/fuse", lambda: moved(lambda: os.open("/dev/fuse", os.O_RDWR)))
attempt("a device", lambda: moved(lambda: os.mknod(f"{top}/mine.device", 0o60666, os.makedev(254, 0))))


def by_chroot() -> str:
    """Out of a changed root by a directory that stayed outside it; only root may, so it comes last."""
    os.chroot(f"{top}/mine.d")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    places = [f"{place}/{name}" for place in ("", "/top", "/top/..", host_path) for name in outside]
    return "".join(read(path) for path in places if os.path.exists(path))


attempt("chroot", by_chroot)
print(json.dumps(found))
