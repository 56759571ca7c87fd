"""Several programs that replace keys of a full pipeline at once, each by a temporary name: that costs no other key."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ScopeName, Store
from tests.support.stores import Stores, keys, rename

KEYS = "abcde"
STEPS: dict[str, Callable[[Store, ScopeName, str], object]] = {
    "put": lambda store, scope, key: store.put_object(scope, f"{key}.tmp".encode(), b"new", force=True),
    "rename": lambda store, scope, key: rename(store, scope, f"{key}.tmp".encode(), key.encode()),
    "remove": lambda store, scope, key: store.delete_object(scope, f"{key}.tmp".encode()),
    "overwrite": lambda store, scope, key: store.put_object(scope, key.encode(), b"new", force=True),
}
WAYS = [("put", "rename"), ("put", "remove"), ("overwrite",)]
"""What a program does to have a new value under a key; it can give up."""

_NUMBERS = count()


def run(store: Store, limit: int, by_age: str, steps: str) -> list[list[str]]:
    """Put the keys in that order and do the steps: `put c` writes c's temporary name. Returns the keys after each."""
    scope = ScopeName.pipeline(f"p{next(_NUMBERS)}")
    store.create_pipeline(scope.name, limit)
    for key in by_age:
        store.put_object(scope, key.encode(), b"old")
    found = []
    for step in steps.split(", "):
        what, key = step.split()
        STEPS[what](store, scope, key)
        found.append([each.decode() for each in keys(store, scope)])
    return found


@pytest.mark.parametrize(
    ("by_age", "steps"),
    [
        ("bca", "put a, put b, rename b, rename a"),
        # What a temporary name had displaced waits for the other one, once the first has the name that this displaced.
        ("bca", "put a, put b, rename b, put b, rename a, rename b"),
        ("dbeca", "put e, put a, put b, rename b, rename e, rename a"),
        # A key that is put anew without a temporary name needs the place of the one that displaced it.
        ("bca", "put a, overwrite b, put b, rename a, overwrite a, rename b"),
        ("cfbaed", "put e, overwrite c, overwrite f, put c, overwrite f, rename c, put c, rename e, rename c"),
        # A temporary name that was given up frees its place, too.
        ("adebc", "put c, overwrite a, overwrite d, put a, put d, rename c, rename a, remove d"),
        # What was renamed to a key from its temporary name is no backup of that.
        ("bac", "put b, rename b, put b, overwrite a, put a, rename a, put a, rename b, put b, rename a, rename b"),
    ],
)
def test_no_key_is_lost(store: Store, by_age: str, steps: str) -> None:
    found = run(store, len(by_age), by_age, steps)
    assert found[-1] == sorted(by_age), found
    assert {len(each) for each in found} == {len(by_age)}


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    stores = Stores(tmp_path_factory.mktemp("store"))
    try:
        yield stores.open()
    finally:
        stores.finish()


@st.composite
def schedules(draw: st.DrawFn) -> tuple[str, str]:
    """The keys by age, and the steps of two programs, one after the other in any order."""
    by_age = "".join(draw(st.permutations(KEYS[: draw(st.integers(3, len(KEYS)))])))
    ways = st.lists(st.sampled_from(WAYS), min_size=1, max_size=5)
    programs = [[f"{step} {key}" for way in draw(ways) for step in way] for key in by_age[:2]]
    order = draw(st.permutations([0] * len(programs[0]) + [1] * len(programs[1])))
    iterators = [iter(program) for program in programs]
    return "".join(draw(st.permutations(by_age))), ", ".join(next(iterators[which]) for which in order)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(schedules())
def test_two_programs_at_once(one_store: Store, schedule: tuple[str, str]) -> None:
    by_age, steps = schedule
    assert run(one_store, len(by_age), by_age, steps)[-1] == sorted(by_age)
