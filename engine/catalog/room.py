"""Room in bytes: what the values of a pipeline, and of the whole store, may have together.

Nothing is evicted for bytes: what does not fit is refused, and what makes the sum no larger never is. A Put has its
room from the moment that it is acknowledged, and is published without asking again.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.catalog import eviction, lifetimes, nodes
from engine.catalog.lifetimes import Home
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.errors import QuotaError, StoreFullError
from engine.model import Kind
from engine.sqlite.database import Database

MOST = 2**63 - 1
"""What a pipeline or run without a limit may have."""


class Load(NamedTuple):
    """How many bytes those Puts have that are acknowledged and not published."""

    in_scope: int
    """In one pipeline or run."""
    in_all: int
    additions: int
    """How many there are that add to what is there: with what was evicted they bring back more bytes than their own."""


class Waiting(NamedTuple):
    """What is acknowledged and not published, but for the Put in question."""

    puts: Callable[[], list[Put]]
    load: Callable[[int], Load | None]
    """The sums of that, with a pipeline's or run's; at once, however many there are. None: the Puts alone can tell."""
    note_move: Callable[[], None]
    """To be called where a directory comes to another pipeline or run."""


def require(tx: Transaction, scope: int, waiting: Waiting) -> None:
    """Look whether what a transaction has put into a pipeline or run fits. Raises QuotaError and StoreFullError."""
    changed = tx.sums.get(scope)
    if changed is not None and changed.grown > 0 and (changed.limit or tx.max_bytes):
        load = waiting.load(scope)
        sizes = changed.bytes, changed.limit, tx.store_bytes, tx.max_bytes
        if load is not None and not load.additions and _fits(load, *sizes):
            return
    require_in_scope(tx, scope, waiting)
    if tx.max_bytes and sum(each.grown for each in tx.sums.values()) > 0:
        _check_store(tx.store_bytes + sum(growth(tx.database, waiting.puts()).values()), tx.max_bytes)


def require_in_scope(tx: Transaction, scope: int, waiting: Waiting) -> None:
    """The same without the store's own limit, for what was in the store before. Raises QuotaError."""
    changed = tx.sums.get(scope)
    if changed is not None and changed.grown > 0:
        more = growth(tx.database, waiting.puts())[scope] if changed.limit else 0
        _check_scope(changed.bytes + more, changed.limit)


def require_for(database: Database, put: Put, waiting: Waiting) -> int:
    """Look whether a Put fits that is about to be acknowledged: now, and when what is waiting is published before it.

    Returns the pipeline or run that it is for.
    Raises QuotaError, StoreFullError, and NotFoundError when the pipeline, run or directory is gone.
    """
    home = lifetimes.require_home(database, put.parent)
    if not home.max_bytes and not home.store_max_bytes and home.bytes + put.size <= MOST:
        return home.ino
    load = waiting.load(home.ino) or _load_of(waiting.puts())
    replaces = put.how in (How.REPLACE, How.CREATE)
    most = put.size if replaces else put.size + _evicted_size(database, put)
    fits = _fits(load, home.bytes + most, home.max_bytes, home.store_bytes + most, home.store_max_bytes)
    if fits and not load.additions:  # these may bring back more than their own bytes
        return home.ino
    alone = growth(database, [], put)
    if alone[home.ino] > 0:
        after = growth(database, waiting.puts(), put)
        _check_scope(home.bytes + max(alone[home.ino], after[home.ino]), home.max_bytes)
        _check_store(home.store_bytes + max(sum(alone.values()), sum(after.values())), home.store_max_bytes)
    return home.ino


def require_possible(database: Database, parent: int, size: int, replaced: int) -> None:
    """Look whether a value in a directory fits if there is nothing beside it. `replaced`: the size of what it replaces.

    Raises QuotaError and StoreFullError.
    """
    home = lifetimes.home(database, parent)
    if home is None or size <= replaced:
        return
    if size > (home.max_bytes or MOST):
        raise QuotaError(f"the value is larger than a pipeline may be, {home.max_bytes or MOST} bytes")
    if size > home.store_max_bytes > 0:
        raise StoreFullError(f"the value is larger than the store may be, {home.store_max_bytes} bytes")


def growth(database: Database, waiting: Iterable[Put], put: Put | None = None) -> Counter[int]:
    """By how many bytes each pipeline or run will grow, with what makes way: by a Put, and those that are waiting.

    These may come at any time. So that one of them makes a value smaller does not count yet.
    """
    by_home: dict[Home, dict[tuple[int, bytes], list[Put]]] = defaultdict(lambda: defaultdict(list))
    for each in [*waiting, *([] if put is None else [put])]:
        home = lifetimes.home(database, each.parent)
        if home is not None:
            by_home[home][each.parent, each.name].append(each)
    grown: Counter[int] = Counter()
    for home, names in by_home.items():
        more = _growth_of(database, home, names, put)
        has_put = put is not None and (put.parent, put.name) in names
        grown[home.ino] = more if has_put else max(more, 0)
    return grown


def _growth_of(database: Database, home: Home, names: dict[tuple[int, bytes], list[Put]], put: Put | None) -> int:
    grown = new = 0
    replaced: set[int] = set()
    for (parent, name), puts in names.items():
        old = nodes.by_name(database, parent, name)
        back = eviction.evicted_at(database, parent, name) if old is None else None
        size = 0 if old is None or old.kind != Kind.OBJECT else old.size
        change = _size_after(puts, size if back is None else back.size) - size
        grown += change if puts == [put] else max(change, 0)
        if old is not None and old.kind == Kind.OBJECT:
            replaced.add(old.ino)
        else:
            new += 1
    victims = home.objects + new - home.object_limit if home.object_limit else 0
    if victims > 0:
        rows = database.rows(eviction.OLDEST, (home.ino, victims + len(replaced)))
        grown -= sum([size for ino, size in rows if ino not in replaced][:victims])
    return grown


def _size_after(puts: list[Put], size: int) -> int:
    """How large a value may be that has `size` bytes now, after these Puts of its name in any order."""
    wholes = [put.size for put in puts if put.how in (How.REPLACE, How.CREATE)]
    wholes += [max(put.size, size) for put in puts if put.how is How.IF_ABSENT]
    return max(wholes, default=size) + sum(put.size for put in puts if put.how is How.APPEND)


def _load_of(puts: list[Put]) -> Load:
    """The sums of what is waiting, without a look at what each is for: as if all were for one pipeline."""
    size = sum(put.size for put in puts)
    return Load(size, size, sum(put.how in (How.IF_ABSENT, How.APPEND) for put in puts))


def _evicted_size(database: Database, put: Put) -> int:
    """How many bytes come back with a Put that adds to what was evicted under its name."""
    if nodes.by_name(database, put.parent, put.name) is not None:
        return 0
    back = eviction.evicted_at(database, put.parent, put.name)
    return 0 if back is None else back.size


def _fits(load: Load, scope: int, scope_limit: int, store: int, store_limit: int) -> bool:
    """Whether a pipeline or run, and the store, may have so many bytes beside what is waiting if nothing makes way."""
    return scope + load.in_scope <= (scope_limit or MOST) and (not store_limit or store + load.in_all <= store_limit)


def _check_scope(size: int, limit: int) -> None:
    if size > (limit or MOST):
        raise QuotaError(f"the pipeline may have {limit or MOST} bytes, and would have {size}")


def _check_store(size: int, limit: int) -> None:
    if limit and size > limit:
        raise StoreFullError(f"the store may have {limit} bytes, and would have {size}")
