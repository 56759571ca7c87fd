"""`fusefs check --repair`: save what can be saved of a damaged store, and say what was lost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from fusefs.cli import output
from fusefs.cli.exit_codes import DAMAGED
from fusefs.cli.transfer import progress

if TYPE_CHECKING:
    from engine.config import ObjectStoreSettings
    from engine.repairing import Repaired


def repair_store(settings: "ObjectStoreSettings", *, as_json: bool) -> None:
    """Repair a store, and tell what became of it; the exit code is 5 when something was lost. Raises StoreError."""
    from engine import repairing  # SQLite: not for --help and wrong arguments

    output.say(f"a repair needs up to {repairing.space_needed(settings)} bytes beside {settings.path}")
    with _progress() as tell:
        repaired = repairing.repair(settings, tell)
    output.tell_effects(*repaired.effects)
    if as_json:
        output.print_json(_as_json(repaired))
    else:
        output.print_lines(_lines(repaired))
    if repaired.lost:
        raise click.exceptions.Exit(DAMAGED)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, one after the other."""
    with ExitStack() as bar:
        bars: dict[str, Callable[[int, int], None]] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                bar.close()
                bars.clear()
                bars[what] = bar.enter_context(progress(what))
            bars[what](done, total)

        yield tell


def _as_json(repaired: "Repaired") -> Iterator[dict[str, object]]:
    for lost in repaired.lost:
        yield {"what": "lost", **output.json_name("path", lost.path), "why": lost.why, "size": lost.size}
    for what, paths in (("recovered", repaired.recovered), ("uncertain", repaired.uncertain)):
        for path in paths:
            yield {"what": what, **output.json_name("path", path)}
    for note in repaired.notes:
        yield {"what": "note", "text": note}
    for file in repaired.kept:
        yield {"what": "kept", **output.json_name("file", bytes(file))}
    yield {"what": "whole", "objects": repaired.objects}


def _lines(repaired: "Repaired") -> Iterator[str]:
    for lost in repaired.lost:
        size = "" if lost.size is None else f", {lost.size} bytes"
        yield f"lost {output.shown(lost.path)}: {lost.why}{size}"
    for path in repaired.recovered:
        yield f"made again {output.shown(path)}"
    for path in repaired.uncertain:
        yield f"not certain {output.shown(path)}: times, owner, mode and attributes may not be what they were"
    yield from repaired.notes
    for file in repaired.kept:
        yield f"kept {output.shown(bytes(file))}"
    if repaired.kept:
        yield "what was kept is not needed any more once you miss nothing: rm removes it"
    yield f"{repaired.objects} objects are whole, {len(repaired.lost)} names are lost"
