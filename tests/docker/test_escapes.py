"""A container sees what it was given, whatever it tries: a mount of its own, a bind of one pipeline, a volume."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.docker.plugins import DRIVER, plugin_of
from tests.support.containers import Containers
from tests.support.dockerengine import Engine
from tests.support.mounting import MountedStore
from tests.support.waiting import wait_until

SECRET = "what the other pipeline holds"

PROGRAM = (Path(__file__).parent / "escape_program.py").read_text()


@pytest.fixture
def whole(make_mount: MakeMount, docker_engine: Engine) -> MountedStore:
    """A mount of all of the store, which no container is given."""
    store = make_mount(options=["--allow-other", "--umask", "000"], within=docker_engine.shared)
    store.directory.chmod(0o755)
    for name in ("pipeline/app", "pipeline/other", "run/42", "run/7"):
        (store.path / name).mkdir()
        (store.path / name / "secret").write_text("its own" if name in ("pipeline/app", "run/42") else SECRET)
    return store


@pytest.fixture
def scoped(make_mount: MakeMount, whole: MountedStore, docker_engine: Engine) -> MountedStore:
    options = ["--allow-other", "--umask", "000", "--pipeline", "app", "--run", "42"]
    store = make_mount(store=whole.store, options=options, within=docker_engine.shared)
    store.directory.chmod(0o755)
    return store


@pytest.fixture
def volume(docker_engine: Engine, whole: MountedStore, containers: Containers) -> Iterator[str]:
    with plugin_of("--umask", "000", store=whole.store_path):
        docker_engine.docker("volume", "create", "--driver", DRIVER, "--opt", "pipeline=app", "escaping")
        yield "escaping"
        containers.close()
        docker_engine.docker("volume", "rm", "escaping")


def tree(store: MountedStore) -> dict[str, str]:
    paths = [path for path in store.path.rglob("*") if path.is_file() and "mine" not in path.name]
    return {str(path.relative_to(store.path)): path.read_text() for path in paths}


def attempts(
    containers: Containers, image: str, whole: MountedStore, bind: str, top: str, *options: str, user: str
) -> dict[str, str]:
    """Let a container try everything; returns what came of each attempt, and that nothing came of it elsewhere."""
    before = tree(whole)
    numbers = [os.stat(whole.path / name).st_ino for name in ("pipeline/other/secret", "pipeline/other", "run/7")]
    container = containers.start(
        *("-c", PROGRAM, top, str(whole.path), SECRET, *map(str, numbers)),
        image=image,
        options=["--entrypoint", "python3", "--user", user, "--volume", bind, *options],
    )
    found: dict[str, str] = json.loads(container.end())
    assert tree(whole) == before
    return found


def check(found: dict[str, str]) -> None:
    assert len(found) > 35
    assert {what: came for what, came in found.items() if came == "reached"} == {}
    # What does work shows that the attempts were made where they should have been.
    assert found["its own key"] == "as expected"
    assert found["a symlink inside"] == "as expected"


@pytest.mark.parametrize("user", ["0", "1001"])
def test_a_mount_of_its_own(
    containers: Containers, docker_image: str, whole: MountedStore, scoped: MountedStore, user: str
) -> None:
    found = attempts(containers, docker_image, whole, f"{scoped.path}:/top", "/top/pipeline/app", user=user)
    check(found)
    assert found["a pipeline beside it"] == "EPERM"


def test_a_mount_of_its_own_with_handles(
    containers: Containers, docker_image: str, whole: MountedStore, scoped: MountedStore
) -> None:
    """The capability that opens files by handle opens no other files."""
    capability = ("--cap-add", "DAC_READ_SEARCH")
    bind = f"{scoped.path}:/top"
    found = attempts(containers, docker_image, whole, bind, "/top/pipeline/app", *capability, user="0")
    check(found)
    assert found["its own key by handle"] == "as expected"
    assert {came for what, came in found.items() if what.startswith("by handle")} == {"ESTALE"}


@pytest.mark.parametrize("user", ["0", "1001"])
def test_a_bind_of_one_pipeline(containers: Containers, docker_image: str, whole: MountedStore, user: str) -> None:
    found = attempts(containers, docker_image, whole, f"{whole.pipeline / 'app'}:/app", "/app", user=user)
    check(found)
    assert {came for what, came in found.items() if what.startswith("by handle")} == {"EPERM"}


@pytest.mark.parametrize("user", ["0", "1001"])
def test_a_volume(containers: Containers, docker_image: str, whole: MountedStore, volume: str, user: str) -> None:
    wait_until((whole.pipeline / "app" / "secret").exists)
    check(attempts(containers, docker_image, whole, f"{volume}:/app", "/app", user=user))
