"""Installs the third-party engine beside this file as its author's users would: built, with its metadata, by pip.

A test module or conftest.py gets the fixture by importing it. The installation is outside the environment that the
tests run in, so only a process started with `third_party_environment` finds the engine.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "third_party"


def install_third_party(target: Path) -> None:
    """Build the package and install it into the directory `target`. Needs the network for the build backend."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Without --no-deps pip would look for fusefs itself, which the process that uses the engine already has.
    done = subprocess.run(
        [*command, "--target", str(target), str(PACKAGE)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def third_party_environment(site: Path) -> dict[str, str]:
    """Return environment variables for a Python process that finds fusefs and what is installed in `site`."""
    inherited = [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT), *inherited])}


@pytest.fixture(scope="session")
def dirstore_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory where fusefs-dirstore is installed, for `third_party_environment`."""
    # One place for the whole run: imported into several modules, a session fixture is a fixture of each of them.
    site = tmp_path_factory.getbasetemp() / "dirstore-site"
    if not site.exists():
        install_third_party(site)
    return site
