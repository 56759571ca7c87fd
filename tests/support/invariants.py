"""What holds in every store at every moment, checked in its database and its content engine.

Tests call `check_store` when they are done: a bug that leaves a wrong count or a lost value behind fails the test that
made it, not the one that stumbles over it.
"""

from engine.catalog.invariants import CONTENTS_REFERRED_TO, NEVER
from engine.store import Store


def check_store(store: Store) -> None:
    """Fail where anything in the store contradicts anything else. Not inside a transaction."""
    database = store.database
    found = {what: rows for what, sql in NEVER.items() if (rows := database.rows(sql))}
    assert not found, found
    assert database.value("PRAGMA integrity_check") == "ok"
    _check_values(store)


def _check_values(store: Store) -> None:
    key = store.contents.key
    known = {key(content) for (content,) in store.database.rows(CONTENTS_REFERRED_TO) if content}
    kept = {name for name in store.engine.list_object_keys() if name.startswith(key(0)[:-16])}
    assert not kept - known, "values that nothing refers to"
    rows = store.database.rows(
        "SELECT content, size FROM node WHERE kind = 1 UNION SELECT content, size FROM evicted"
        " UNION SELECT content, size FROM intent"
    )
    for content, size in rows:
        found = store.engine.object_size(key(content)) if content else 0
        assert found == size, f"value {content} has {found} bytes, and the catalog says {size}"


def check_nothing_left(store: Store) -> None:
    """Fail unless, once everything is swept, the store holds nothing but what can be reached by name or come back."""
    while store.upkeep.sweep() or store.upkeep.reclaim():
        pass
    check_store(store)
    counts = {
        table: store.database.value(f"SELECT count(*) FROM {table}")
        for table in ("doomed", "intent", "draft", "change", "pin")
    }
    assert not any(counts.values()), counts
    wanted = store.database.value(
        "SELECT count(*) FROM (SELECT content FROM node UNION SELECT content FROM evicted) WHERE content <> 0"
    )
    assert len(store.engine.list_object_keys(store.contents.key(0)[:-16])) == wanted
