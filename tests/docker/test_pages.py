"""The commands of docs/containers.md, as a person types them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.plugins import DRIVER, plugin_of
from tests.support import dockerimages
from tests.support.dockerengine import Engine
from tests.support.dockerplugin import Plugin
from tests.support.documentation import ROOT, run_page


@pytest.fixture
def directory(docker_engine: Engine) -> Path:
    path = docker_engine.shared / "page"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def plugin(directory: Path) -> Iterator[Plugin]:
    """One that serves the store of the page's user."""
    (directory / "home").mkdir()
    with plugin_of(store=directory / "home" / "objects.db") as plugin:
        yield plugin


def test_commands_do_what_the_page_says(docker_engine: Engine, directory: Path, plugin: Plugin) -> None:
    docker_engine.docker("tag", dockerimages.BUSYBOX, "busybox")
    wrong = run_page(
        ROOT / "docs" / "containers.md",
        directory,
        "test in containers",
        instead={"/srv/fusefs": str(directory / "srv"), "-d fusefs": f"-d {DRIVER}"},
        more={name: value for name, value in docker_engine.environment.items() if name.startswith("DOCKER_")},
    )
    assert not wrong, "\n\n".join(wrong)
