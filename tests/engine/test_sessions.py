"""Sessions: who has a store open, as the kernel's locks tell."""

import os

import pytest

from engine import Store
from tests.support.stores import Stores, run_process, start_process

DIES = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
print(store.sessions.ensure())
die()
"""
LIVES = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
store.sessions.ensure()
wait()
store.close()
"""


def listed(store: Store) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in store.database.rows("SELECT id, pid FROM session ORDER BY id")]


def test_a_session_begins_when_it_is_needed_and_ends_with_the_store(stores: Stores) -> None:
    store = stores.open()
    assert store.sessions.own == 0
    assert listed(store) == []
    own = store.sessions.ensure()
    assert own == store.sessions.own == store.sessions.ensure()
    assert listed(store) == [(own, os.getpid())]
    assert listed(stores.reopen(store)) == []


def test_no_number_is_used_twice(stores: Stores) -> None:
    numbers = set()
    for _ in range(4):
        store = stores.open()
        numbers.add(store.sessions.ensure())
        stores.close(store)
    assert len(numbers) == 4


def test_two_stores_of_one_process_are_two_sessions(stores: Stores) -> None:
    """A lock of fcntl's older kind would belong to the process, and go with the first store that it closes."""
    one, other = stores.open(), stores.open()
    assert one.sessions.ensure() != other.sessions.ensure()
    third = stores.open()
    third.sessions.ensure()
    stores.close(third)
    assert one.sessions.dead() == other.sessions.dead() == []
    watcher = stores.open()
    assert watcher.sessions.dead() == []
    assert len(listed(watcher)) == 2


def test_a_killed_process_is_dead_and_a_running_one_not(stores: Stores) -> None:
    store = stores.open()
    with start_process(LIVES, str(stores.path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ((alive, pid),) = listed(store)
        assert pid == process.pid
        killed = int(run_process(DIES, str(stores.path), expected=-9))
        assert store.sessions.dead() == [killed]
        assert len(store.publisher.recover().nodes) == 0
        assert listed(store) == [(alive, pid)]
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert listed(store) == []


def test_a_child_process_does_not_keep_a_session_alive(stores: Stores) -> None:
    """The lock goes with the last descriptor: one that a child inherited would keep it."""
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
print(store.sessions.ensure())
import subprocess
child = subprocess.Popen(["sleep", "30"], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
die()
"""
    killed, child = map(int, run_process(program, str(stores.path), expected=-9).split())
    try:
        store = stores.open(read_only=False, create=False)
        assert listed(store) == [], f"session {killed} is dead"
    finally:
        os.kill(child, 15)


def test_the_next_open_forgets_dead_sessions(stores: Stores) -> None:
    for _ in range(3):
        run_process(DIES, str(stores.path), expected=-9)
    assert listed(stores.open()) == []


def test_a_store_in_memory_has_one_session_and_no_file(stores: Stores, tmp_path: pytest.TempPathFactory) -> None:
    store = stores.open(engine="memory")
    own = store.sessions.ensure()
    assert listed(store) == [(own, os.getpid())]
    assert store.sessions.dead() == []
    assert len(store.publisher.recover().nodes) == 0
    assert not os.listdir(str(tmp_path))
