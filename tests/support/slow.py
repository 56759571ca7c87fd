"""The command `fusefs` on a slow disk: `python -m tests.support.slow ARGUMENTS`, for daemons that tests start.

While the file that SLOW_FILE names exists, every value that is read in a thread takes as many seconds as it says.
"""

import os
import time
from pathlib import Path

from engine.contents import Contents


def install(trigger: Path) -> None:
    read = Contents.read

    def slow(self: Contents, content: int, offset: int, length: int) -> bytes:
        if trigger.exists() and not self.database.is_owner:
            time.sleep(float(trigger.read_text()))
        return read(self, content, offset, length)

    Contents.read = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    from fusefs.cli import main

    install(Path(os.environ["SLOW_FILE"]))
    main()
