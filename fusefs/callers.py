"""What /proc tells of the process behind a request."""

import os


def holds(pid: int, ino: int) -> bool:
    """Whether the process of thread `pid` has the file with inode number `ino` open (proc(5): /proc/PID/fdinfo).

    Reads nothing of the mount itself, so it cannot wait for us. False for a process that is gone or out of sight.
    """
    if not pid:
        return False
    wanted = f"ino:\t{ino}\n"
    directory = f"/proc/{pid}/fdinfo"
    try:
        for fd in os.listdir(directory):
            with open(f"{directory}/{fd}") as info:
                if wanted in info.read():
                    return True
    except OSError:
        return False
    return False
