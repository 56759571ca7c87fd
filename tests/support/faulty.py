"""The command `fusefs` with a fault: `python -m tests.support.faulty ARGUMENTS`, for daemons that tests start.

FAULT_FILE names a file. While it holds the name of one of the methods below, that method's next call raises
RuntimeError and removes the file, so each fault happens once.

With FAULT_RATE, every call of each of them fails at random, that often of 1; the file FAULT_FILE gets a line for each.
"""

import functools
import importlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

METHODS = [
    "fusefs.namespace:Namespace.lookup",
    "fusefs.namespace:Namespace.open_directory",
    "fusefs.namespace:Namespace.entries",
    "fusefs.namespace:Namespace.make_directory",
    "fusefs.namespace:Namespace.remove_directory",
    "fusefs.namespace:Namespace.make_symlink",
    "fusefs.namespace:Namespace.remove",
    "fusefs.namespace:Namespace.exchange",
    "fusefs.namespace:Namespace.rename",
    "fusefs.attributes:NodeAttributes.read_link",
    "fusefs.attributes:NodeAttributes.get",
    "fusefs.attributes:NodeAttributes.set",
    "fusefs.attributes:NodeAttributes.get_xattr",
    "fusefs.attributes:NodeAttributes.list_xattrs",
    "fusefs.attributes:NodeAttributes.set_xattr",
    "fusefs.attributes:NodeAttributes.remove_xattr",
    "fusefs.opening:Opening.create",
    "fusefs.opening:Opening.new_copy",
    "fusefs.files:Files.open",
    "fusefs.files:Files.read",
    "fusefs.files:Files.write",
    "fusefs.files:Files.flush",
    "fusefs.files:Files.fsync",
    "fusefs.files:Files.release",
    "fusefs.publication:Publication.publish",
    "fusefs.state:MountState.forget",
    "fusefs.operations:sync",
    "engine.drafts:Draft.write",
    "engine.tree:Tree.space",
    "engine.upkeep:Upkeep.sweep",
]


def short(method: str) -> str:
    """The method's name without its module."""
    return method.partition(":")[2]


def failing(method: str, original: Callable[..., Any], trigger: Path) -> Callable[..., Any]:
    """Return `original` with the fault in front of it."""

    @functools.wraps(original)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if trigger.exists() and trigger.read_text() == method:
            trigger.unlink()
            raise RuntimeError(f"injected into {method}")
        return original(*arguments, **options)

    return wrapper


def failing_at_random(method: str, original: Callable[..., Any], rate: float, counted: int) -> Callable[..., Any]:
    """Return `original` with faults in front of some calls."""

    @functools.wraps(original)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if random.random() < rate:
            os.write(counted, f"{method}\n".encode())
            raise RuntimeError(f"injected into {method}")
        return original(*arguments, **options)

    return wrapper


def install(with_fault: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put every fault in its place."""
    for method in METHODS:
        module, _, path = method.partition(":")
        owner: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, with_fault(method, getattr(owner, name)))


if __name__ == "__main__":
    from fusefs.cli import main

    file = os.environ["FAULT_FILE"]
    if "FAULT_RATE" in os.environ:
        rate, counted = float(os.environ["FAULT_RATE"]), os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # Not before the handler of WRITE, but in it: what it does about an error is what keeps a Put whole.
        METHODS[METHODS.index("fusefs.files:Files.write")] = "fusefs.files:Files._begin_change"
        # Of what is open for writing the kernel asks the attributes before a write(2), and refuses that where it is
        # refused them. Nobody tells the daemon of that write, so what was written until then is put.
        METHODS[METHODS.index("fusefs.attributes:NodeAttributes.get")] = "fusefs.state:MountState.directory"
        # A file whose RELEASE is not carried out is open for ever, and its process sees what it wrote.
        METHODS.remove("fusefs.files:Files.release")
        install(lambda method, original: failing_at_random(method, original, rate, counted))
    else:
        install(lambda method, original: failing(method, original, Path(file)))
    main()
