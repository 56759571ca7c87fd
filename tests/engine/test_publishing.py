"""Publishing Puts so that none is lost: prepared at FLUSH, published at RELEASE, recovered after a SIGKILL."""

from pathlib import Path

import pytest

from engine import ScopeName, Store
from engine.catalog.puts import How
from engine.errors import (
    ExistsError,
    IsDirectoryError,
    NotFoundError,
    NotPermittedError,
    ReplacedError,
    TooLargeError,
)
from engine.model import PIPELINES_INO
from engine.registry import BUILT_IN
from tests.support.invariants import check_nothing_left
from tests.support.stores import (
    Stores,
    directory,
    keys,
    new_draft,
    new_put,
    node,
    reclaim_all,
    run_process,
    start_process,
    value,
    values,
)
from tests.support.third_party.fusefs_dirstore import DirectoryEngine

LARGE = b"large" * 50_000
APP = ScopeName.pipeline("app")
SIZES = pytest.mark.parametrize("content", [b"", b"value", LARGE], ids=len)


def publish(store: Store, key: bytes, content: bytes, how: How = How.REPLACE) -> None:
    draft = new_draft(store, content)
    store.publisher.publish(new_put(store, directory(store, APP), key, how), draft)
    store.publisher.abandon(draft)


# In one process


@SIZES
def test_a_published_draft_is_an_object(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    put = new_put(store, directory(store, app), b"key")
    put.mode, put.uid, put.gid, put.atime_ns, put.mtime_ns, put.xattrs = 0o600, 7, 8, 1, 2, b"packed"
    published = store.publisher.publish(put, draft)
    assert published.node == node(store, app, b"key")
    found = published.node
    assert (found.ino, found.mode, found.uid, found.gid, found.size) == (put.ino, 0o600, 7, 8, len(content))
    assert (found.atime_ns, found.mtime_ns, found.xattrs) == (1, 2, b"packed")
    assert value(store, app, b"key") == content
    store.publisher.abandon(draft)
    check_nothing_left(store)


@SIZES
def test_what_is_prepared_is_not_seen_before_it_is_published(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    put = new_put(store, directory(store, app), b"key")
    store.publisher.prepare(put, draft, 1)
    assert keys(store, app) == []
    reclaim_all(store)
    store.publisher.publish(put, draft, (put.ino, 1))
    assert values(store, app) == {b"key": content}
    check_nothing_left(store)


@SIZES
@pytest.mark.parametrize("more", [b"", b"more", LARGE], ids=len)
def test_what_is_prepared_can_be_changed_and_prepared_again(
    store: Store, app: ScopeName, content: bytes, more: bytes
) -> None:
    """As when one descriptor of several is closed: FLUSH, more writes, FLUSH, RELEASE."""
    draft = new_draft(store, content)
    put = new_put(store, directory(store, app), b"key")
    store.publisher.prepare(put, draft, 1)
    store.publisher.retract(put.ino, draft, 1)
    draft.write(len(content), more)
    store.publisher.prepare(put, draft, 1)
    draft.truncate(3)
    draft.write(0, b"X")
    expected = b"X" + (content + more).ljust(3, b"\0")[1:3]
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1))
    assert values(store, app) == {b"key": expected}
    check_nothing_left(store)


@SIZES
def test_a_retracted_intent_leaves_nothing(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    put = new_put(store, directory(store, app), b"key")
    store.publisher.prepare(put, draft, 1)
    store.publisher.retract(put.ino, draft, 1)
    store.publisher.abandon(draft)
    check_nothing_left(store)
    assert keys(store, app) == []
    assert store.engine.list_object_keys() == []


@SIZES
def test_an_abandoned_intent_leaves_nothing(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    put = new_put(store, directory(store, app), b"key")
    store.publisher.prepare(put, draft, 1)
    store.publisher.abandon(draft, put.ino, 1)
    check_nothing_left(store)
    assert keys(store, app) == []
    assert store.engine.list_object_keys() == []


@SIZES
def test_a_draft_goes_on_after_it_was_published(store: Store, app: ScopeName, content: bytes) -> None:
    """fsync in the middle: what is written later changes nothing of what was published."""
    draft = new_draft(store, content)
    top = directory(store, app)
    store.publisher.publish(new_put(store, top, b"key"), draft)
    draft.write(len(content), b"more")
    assert values(store, app) == {b"key": content}
    reading = store.read_object(app, b"key")
    store.publisher.publish(new_put(store, top, b"key"), draft)
    draft.truncate(1)
    store.publisher.publish(new_put(store, top, b"key"), draft)
    assert b"".join(reading) == content
    assert values(store, app) == {b"key": (content + b"more")[:1]}
    check_nothing_left(store)


def test_two_puts_of_one_name_are_both_whole_and_the_last_wins(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    first, second = new_draft(store, LARGE), new_draft(store, b"second")
    one, other = new_put(store, top, b"key"), new_put(store, top, b"key")
    store.publisher.prepare(one, first, 1)
    store.publisher.prepare(other, second, 2)
    store.publisher.publish(other, second, (other.ino, 2))
    assert values(store, app) == {b"key": b"second"}
    store.publisher.publish(one, first, (one.ino, 1))
    assert values(store, app) == {b"key": LARGE}
    check_nothing_left(store)


def test_create_if_absent_never_replaces(store: Store, app: ScopeName) -> None:
    publish(store, b"key", b"", How.IF_ABSENT)
    assert values(store, app) == {b"key": b""}
    store.put_object(app, b"key", b"value", force=True)
    before = node(store, app, b"key")
    for content in (b"", b"other", LARGE):
        publish(store, b"key", content, How.IF_ABSENT)
    assert node(store, app, b"key") == before
    check_nothing_left(store)


@SIZES
@pytest.mark.parametrize("how", list(How))
def test_what_cannot_be_published_leaves_the_old_value_and_nothing_else(
    stores: Stores, how: How, content: bytes
) -> None:
    store = stores.open(max_object_size=300_000)
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"x" * 299_999)
    store.put_object(APP, b"a/b", b"")
    top = directory(store, APP)
    refused: list[tuple[int, bytes, bytes, type[Exception]]] = [
        (top, b"a", content, IsDirectoryError),
        (10**9, b"key", content, NotFoundError),
        (PIPELINES_INO, b"key", content, NotPermittedError),
        (top, b"big", LARGE * 2, TooLargeError),
    ]
    if how is How.CREATE:
        refused.append((top, b"key", content, ExistsError))
    if how is How.APPEND:
        refused.append((top, b"key", b"xx", TooLargeError))
    for parent, name, bytes_, error in refused:
        draft = new_draft(store, bytes_)
        with pytest.raises(error):
            store.publisher.publish(new_put(store, parent, name, how), draft)
        store.publisher.abandon(draft)
    assert values(store, APP) == {b"a/b": b"", b"key": b"x" * 299_999}
    check_nothing_left(store)


def test_an_append_that_is_refused_leaves_nothing_in_the_engine(stores: Stores) -> None:
    store = stores.open(engine="memory", max_object_size=10)
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"x" * 9)
    draft = new_draft(store, b"yy")
    with pytest.raises(TooLargeError):
        store.publisher.publish(new_put(store, directory(store, APP), b"key", How.APPEND), draft)
    store.publisher.abandon(draft)
    check_nothing_left(store)
    assert values(store, APP) == {b"key": b"x" * 9}


@SIZES
def test_a_draft_that_could_not_be_published_can_be_elsewhere(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    put = new_put(store, 10**9, b"key")
    with pytest.raises(NotFoundError):
        store.publisher.publish(put, draft)
    with pytest.raises(NotFoundError):
        store.publisher.prepare(put, draft, 1)
    put.parent = directory(store, app)
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1))
    assert values(store, app) == {b"key": content}
    check_nothing_left(store)


@SIZES
def test_a_failed_prepare_does_not_pass_for_a_kept_value(store: Store, app: ScopeName, content: bytes) -> None:
    draft = new_draft(store, content)
    with pytest.raises(NotFoundError):
        store.publisher.prepare(new_put(store, 10**9, b"key"), draft, 1)
    store.publisher.publish(new_put(store, directory(store, app), b"key"), draft)
    assert values(store, app) == {b"key": content}
    check_nothing_left(store)


# Append


@SIZES
@pytest.mark.parametrize(
    "old", [None, b"", b"old", LARGE, b"x" * 65_535], ids=lambda old: "none" if old is None else len(old)
)
def test_an_append_adds_to_what_is_there(store: Store, app: ScopeName, old: bytes | None, content: bytes) -> None:
    if old is not None:
        store.put_object(app, b"key", old, uid=7)
    publish(store, b"key", content, How.APPEND)
    assert values(store, app) == {b"key": (old or b"") + content}
    assert node(store, app, b"key").uid == (0 if old is None else 7)
    check_nothing_left(store)


@pytest.mark.parametrize("engine", ["sqlite", "memory"])
def test_an_append_that_may_not_join_what_is_there(stores: Stores, engine: str) -> None:
    """The one who appends is asked in the transaction, about the object that is there by then."""
    store = stores.open(engine=engine)
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"old", uid=7)
    draft = new_draft(store, b"more")
    put = new_put(store, directory(store, APP), b"key", How.APPEND)
    put.may_join = lambda old: old.uid != 7
    with pytest.raises(ReplacedError):
        store.publisher.publish(put, draft)
    assert values(store, APP) == {b"key": b"old"}
    put.may_join = lambda old: old.uid == 7
    store.publisher.publish(put, draft)
    assert values(store, APP) == {b"key": b"oldmore"}
    check_nothing_left(store)


def test_many_appends_lose_nothing(store: Store, app: ScopeName) -> None:
    lines = [b"%05d" % number * 700 for number in range(60)]
    for line in lines:
        publish(store, b"key", line, How.APPEND)
    assert value(store, app, b"key") == b"".join(lines)
    check_nothing_left(store)


def test_appends_of_several_processes_lose_nothing(stores: Stores) -> None:
    """Each line is there once and whole, in the order of its writer, though the file did not exist at first."""
    store = stores.open()
    store.create_pipeline(APP.name)
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
top = directory(store, ScopeName.pipeline("app"))
wait()
for number in range(40):
    draft = new_draft(store, f"{sys.argv[2]} {number}\\n".encode() * 500)
    store.publisher.publish(new_put(store, top, b"log", How.APPEND), draft)
store.close()
"""
    writers = [start_process(program, str(stores.path), name) for name in "abc"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=100)
        assert writer.returncode == 0, errors
    lines = value(store, APP, b"log").decode().splitlines()
    for name in "abc":
        assert [line for line in lines if line[0] == name] == [f"{name} {n}" for n in range(40) for _ in range(500)]
    assert len(lines) == 3 * 40 * 500
    assert all(len(set(lines[start : start + 500])) == 1 for start in range(0, len(lines), 500))
    check_nothing_left(store)


def test_appends_to_an_engine_of_its_own_are_not_overtaken(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Put that comes between joining the values outside the catalog and publishing them is appended to as well."""
    store = stores.open(engine="memory")
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"old ")
    join = store.contents.join
    overtakers = [b"first ", b"second ", None]

    def overtaken(content: int, first: int, first_size: int, second: int, second_size: int) -> None:
        join(content, first, first_size, second, second_size)
        new = overtakers.pop(0)
        if new is not None:
            store.put_object(APP, b"key", new, force=True)

    monkeypatch.setattr(store.contents, "join", overtaken)
    publish(store, b"key", b"appended", How.APPEND)
    assert values(store, APP) == {b"key": b"second appended"}
    check_nothing_left(store)


def test_an_append_whose_object_is_deleted_meanwhile(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.open(engine="memory")
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"old ")
    join = store.contents.join

    def overtaken(content: int, first: int, first_size: int, second: int, second_size: int) -> None:
        join(content, first, first_size, second, second_size)
        store.delete_object(APP, b"key")

    monkeypatch.setattr(store.contents, "join", overtaken)
    publish(store, b"key", b"appended", How.APPEND)
    assert values(store, APP) == {b"key": b"appended"}
    check_nothing_left(store)


# After a SIGKILL

OPEN = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
app = ScopeName.pipeline("app")
top = directory(store, app)
"""
LARGE_THERE = "b'large' * 50_000"


@pytest.fixture
def made(stores: Stores) -> Stores:
    """A store with the pipeline app, closed."""
    store = stores.open()
    store.create_pipeline(APP.name, 3)
    stores.close(store)
    return stores


def after_death(stores: Stores, program: str) -> Store:
    """Run `program`, which ends by SIGKILL, with the store open as `store`; then open the store again."""
    run_process(OPEN + program + "\ndie()", str(stores.path), expected=-9)
    return stores.open()


@pytest.mark.parametrize("content", ["b''", "b'value'", LARGE_THERE], ids=["empty", "small", "large"])
def test_a_dead_sessions_intents_are_published_by_the_next_open(made: Stores, content: str) -> None:
    store = after_death(
        made,
        f"""
put = new_put(store, top, b"key")
put.mode, put.uid, put.mtime_ns, put.xattrs = 0o600, 7, 5, b"packed"
store.publisher.prepare(put, new_draft(store, {content}), 1)
print(put.ino)
""",
    )
    assert values(store, APP) == {b"key": eval(content)}
    found = node(store, APP, b"key")
    assert (found.mode, found.uid, found.mtime_ns, found.xattrs) == (0o600, 7, 5, b"packed")
    check_nothing_left(store)
    assert store.sessions.dead() == []


def test_what_was_published_is_not_published_again(made: Stores) -> None:
    store = after_death(
        made,
        """
put, draft = new_put(store, top, b"key"), new_draft(store, b"value")
store.publisher.prepare(put, draft, 1)
store.publisher.publish(put, draft, (put.ino, 1))
store.put_object(app, b"key", b"newer", force=True)
""",
    )
    assert values(store, APP) == {b"key": b"newer"}
    check_nothing_left(store)


@pytest.mark.parametrize("content", ["b'value'", LARGE_THERE], ids=["small", "large"])
def test_what_was_not_acknowledged_is_gone(made: Stores, content: str) -> None:
    store = after_death(
        made,
        f"""
unwritten = new_draft(store, {content})
store.contents.settle(unwritten)
put, draft = new_put(store, top, b"retracted"), new_draft(store, {content})
store.publisher.prepare(put, draft, 1)
store.publisher.retract(put.ino, draft, 1)
""",
    )
    assert keys(store, APP) == []
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []
    assert store.database.value("SELECT count(*) FROM chunk") == 0


def test_a_value_changed_after_it_was_acknowledged(made: Stores) -> None:
    """One descriptor closed, another one still writing: it comes back as it was at the close, or changed, but whole."""
    store = after_death(
        made,
        """
for key, content in ((b"large", b'large' * 50_000), (b"small", b"value")):
    put, draft = new_put(store, top, key), new_draft(store, content)
    store.publisher.prepare(put, draft, 1)
    if draft.large is None:
        draft.write(0, b"later" * 50_000)
        store.contents.settle(draft)
    else:
        store.publisher.retract(put.ino, draft, 1)
        draft.write(0, b"later")
        store.publisher.prepare(put, draft, 1)
""",
    )
    assert values(store, APP) == {b"large": b"later" + LARGE[5:], b"small": b"value"}
    check_nothing_left(store)


def test_each_way_of_putting_is_kept_in_mind(made: Stores) -> None:
    store = after_death(
        made,
        """
store.set_limit(app.name, 0)
for key in (b"append", b"append-large", b"if-absent", b"replace", b"deleted"):
    store.put_object(app, key, b"old ")
store.put_object(app, b"append-large", b"old " * 50_000, force=True)
for number, (key, how) in enumerate([
    (b"append", How.APPEND), (b"append-large", How.APPEND), (b"append-new", How.APPEND), (b"deleted", How.APPEND),
    (b"create-new", How.CREATE),
    (b"if-absent", How.IF_ABSENT), (b"if-absent-new", How.IF_ABSENT),
    (b"replace", How.REPLACE),
]):
    store.publisher.prepare(new_put(store, top, key, how), new_draft(store, b"new"), number)
store.delete_object(app, b"deleted")
""",
    )
    assert values(store, APP) == {
        b"append": b"old new",
        b"append-large": b"old " * 50_000 + b"new",
        b"append-new": b"new",
        b"create-new": b"new",
        b"deleted": b"new",
        b"if-absent": b"old ",
        b"if-absent-new": b"new",
        b"replace": b"new",
    }
    check_nothing_left(store)


def test_two_intents_of_one_inode_are_both_published(made: Stores) -> None:
    store = after_death(
        made,
        """
first, second = new_put(store, top, b"key"), new_put(store, top, b"key")
second.ino = first.ino
store.publisher.prepare(first, new_draft(store, b"first"), 1)
store.publisher.prepare(second, new_draft(store, b'large' * 50_000), 2)
""",
    )
    assert values(store, APP) == {b"key": LARGE}
    check_nothing_left(store)


def test_recovered_puts_meet_the_limit(made: Stores) -> None:
    store = after_death(
        made,
        """
for number in range(5):
    store.publisher.prepare(new_put(store, top, b"%d" % number), new_draft(store, b"value"), number)
""",
    )
    assert keys(store, APP) == [b"2", b"3", b"4"]
    check_nothing_left(store)


def test_what_has_no_place_any_more_is_given_up_and_told(made: Stores) -> None:
    store = after_death(
        made,
        """
store.put_object(app, b"a/b", b"")
store.start_run(b"42")
below = [directory(store, app, b"a"), directory(store, ScopeName.run("42"))]
for number, parent in enumerate(below):
    store.publisher.prepare(new_put(store, parent, b"key %d" % number), new_draft(store, b'large' * 50_000), number)
for number, name in enumerate((b"kept", b"c"), 2):
    store.publisher.prepare(new_put(store, top, name), new_draft(store, b"value"), number)
store.put_object(app, b"c/d", b"")
store.delete_object(app, b"a/b")
store.tree.remove_directory(top, b"a")
store.tree.remove_directory(3, b"42")
""",
    )
    assert values(store, APP) == {b"kept": b"value", b"c/d": b""}
    assert store.database.troubles.news() == [
        "what was put to key 0 and acknowledged is lost: the directory is gone",
        "what was put to key 1 and acknowledged is lost: the directory is gone",
        "what was put to pipeline/app/c and acknowledged is lost: a directory has this name",
    ]
    check_nothing_left(store)


def test_what_its_writer_took_back_is_no_loss_to_be_told(made: Stores) -> None:
    """As a mount does before the name is removed."""
    store = after_death(
        made,
        """
store.put_object(app, b"a/b", b"")
for number, content in enumerate((b"small", b"large" * 50_000)):
    put, draft = new_put(store, directory(store, app, b"a"), b"key %d" % number), new_draft(store, content)
    store.publisher.prepare(put, draft, number)
    store.publisher.retract(put.ino, draft, number)
store.delete_object(app, b"a/b")
store.tree.remove_directory(top, b"a")
""",
    )
    assert store.database.troubles.news() == []
    assert keys(store, APP) == []
    check_nothing_left(store)


def test_a_tighter_max_object_size_gives_up_what_is_too_large(made: Stores) -> None:
    program = OPEN + 'store.publisher.prepare(new_put(store, top, b"key"), new_draft(store, b"value"), 1)\ndie()'
    run_process(program, str(made.path), expected=-9)
    store = made.open(max_object_size=4)
    (told,) = store.database.troubles.news()
    assert "what was put to pipeline/app/key and acknowledged is lost: the value has 5 bytes" in told
    assert keys(store, APP) == []
    check_nothing_left(store)


def test_an_append_that_is_given_up_counts_nothing(made: Stores) -> None:
    """What it would have brought back stays away, and the store's bytes are those of what it has."""
    store = made.open()
    program = (
        OPEN
        + """
store.put_object(app, b"log", b"x" * 1000)
store.put_object(app, b"other", b"y" * 10)
store.publisher.prepare(new_put(store, top, b"log", How.APPEND), new_draft(store, b"more"), 1)
store.put_object(app, b"temporary", b"z")
store.put_object(app, b"another", b"z")
die()
"""
    )
    run_process(program, str(made.path), expected=-9)
    store.database.rows("UPDATE store SET max_object_size = 1000")
    recovered = store.publisher.recover()
    assert recovered.nodes == []
    assert not any(effects.evicted or effects.restored for effects in recovered.effects)
    assert keys(store, APP) == [b"another", b"other", b"temporary"]
    check_nothing_left(store)


def test_a_live_sessions_intents_are_left_alone(made: Stores) -> None:
    program = (
        OPEN + 'store.publisher.prepare(new_put(store, top, b"key"), new_draft(store, b"value"), 1)\nwait()\ndie()'
    )
    with start_process(program, str(made.path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        store = made.open()
        assert len(store.publisher.recover().nodes) == 0
        assert keys(store, APP) == []
        reclaim_all(store)
        process.communicate("\n", timeout=60)
        assert process.returncode == -9
        assert len(store.publisher.recover().nodes) == 1
    assert values(store, APP) == {b"key": b"value"}
    check_nothing_left(store)


def test_closing_with_something_acknowledged_leaves_it_to_the_next_open(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    store.publisher.prepare(new_put(store, directory(store, APP), b"key"), new_draft(store, LARGE), 1)
    store = stores.reopen(store)
    assert values(store, APP) == {b"key": LARGE}
    check_nothing_left(store)


def test_a_read_only_open_shows_what_was_acknowledged(made: Stores) -> None:
    program = OPEN + 'store.publisher.prepare(new_put(store, top, b"key"), new_draft(store, b"value"), 1)\ndie()'
    run_process(program, str(made.path), expected=-9)
    assert values(made.open(read_only=True), APP) == {b"key": b"value"}


def test_an_engine_of_its_own_recovers_too(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "dirstore", DirectoryEngine)
    options = {"location": str(tmp_path / "values")}
    store = stores.open(engine="dirstore", options=options)
    store.create_pipeline(APP.name)
    for key in (b"append", b"replace"):
        store.put_object(APP, key, b"old ")
    stores.close(store)
    program = f"""
import engine.registry
from tests.support.third_party.fusefs_dirstore import DirectoryEngine
engine.registry.BUILT_IN["dirstore"] = DirectoryEngine
store = open_store(ObjectStoreSettings(path=sys.argv[1], engine="dirstore", options={options!r}))
top = directory(store, ScopeName.pipeline("app"))
for number, how in enumerate((How.APPEND, How.REPLACE)):
    put = new_put(store, top, how.name.lower().encode(), how)
    store.publisher.prepare(put, new_draft(store, b'large' * 50_000), number)
store.contents.settle(new_draft(store, b"never acknowledged"))
die()
"""
    run_process(program, str(stores.path), expected=-9)
    store = stores.open(engine="dirstore", options=options)
    assert values(store, APP) == {b"append": b"old " + LARGE, b"replace": LARGE}
    check_nothing_left(store)


def test_the_first_to_close_creates(stores: Stores) -> None:
    """A Put that must not replace anything has its name from `prepare` on, also against another process."""
    one, two = stores.open(), stores.open()
    one.create_pipeline(APP.name)
    top = directory(one, APP)
    one.publisher.prepare(first := new_put(one, top, b"key", How.CREATE), draft := new_draft(one, b"one"), 1)
    with pytest.raises(ExistsError):
        two.publisher.prepare(new_put(two, top, b"key", How.CREATE), new_draft(two, b"two"), 1)
    # What replaces may still come in between: both are whole, and the last to be published wins.
    two.put_object(APP, b"key", b"three", force=True)
    first.how = How.REPLACE
    one.publisher.publish(first, draft, (first.ino, 1))
    assert values(one, APP) == {b"key": b"one"}
    with pytest.raises(ExistsError):
        one.publisher.prepare(new_put(one, top, b"key", How.CREATE), new_draft(one, b"four"), 2)
