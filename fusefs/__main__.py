"""`python -m fusefs` is the command `fusefs`."""

import gc


def run() -> None:
    """Run the command, which is over before there is any garbage to collect: 20 ms of each start."""
    gc.disable()
    from fusefs.cli import main

    main()


if __name__ == "__main__":
    run()
