"""Fixtures of the tests in containers, imported by tests/conftest.py: one engine and one image for a whole run."""

from collections.abc import Iterator

import pytest

from tests.support import dockerimages
from tests.support.containers import Containers
from tests.support.dockerengine import Engine, EngineError


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker engine of this run."""
    try:
        engine = Engine()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        dockerimages.import_busybox(engine)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def docker_image(docker_engine: Engine) -> str:
    """The image of docker/Dockerfile, built by the classic builder."""
    dockerimages.import_base(docker_engine)
    dockerimages.build(docker_engine, dockerimages.FUSEFS, buildkit=False)
    return dockerimages.FUSEFS


@pytest.fixture
def containers(docker_engine: Engine) -> Iterator[Containers]:
    """Starts containers with busybox, unless another image is named."""
    started = Containers(docker_engine, dockerimages.BUSYBOX)
    try:
        yield started
    finally:
        started.close()
