"""The project around the program: scripts, pinned versions, the demo."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.dockerengine import SWITCH
from tests.support.scratch import fuse_mounts

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "script").iterdir()), ROOT / ".ci" / "run", ROOT / "docker" / "entrypoint"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_failure(script: Path) -> None:
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# "), "the second line says what it is for"
    assert "set -euo pipefail" in lines


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_pinned_versions_are_ones_that_the_project_allows() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *content["project"]["dependencies"],
        *content["dependency-groups"]["dev"],
        *content["build-system"]["requires"],
    ]
    for requirement in map(Requirement, wanted):
        version = pins().get(requirement.name.lower().replace("_", "-"))
        assert version is not None, f"{requirement.name} is not pinned: run script/lock"
        assert version in requirement.specifier, f"{requirement} is pinned to {version}: run script/lock"


def test_what_builds_is_pinned_to_the_same_versions() -> None:
    lines = (ROOT / "requirements" / "build.txt").read_text().splitlines()
    everything = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    assert set(lines) <= set(everything)


@pytest.mark.mount
@pytest.mark.slow
def test_the_demo_works_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "script" / "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same, byte for byte") == 4, done.stdout  # each is told, then found
    assert not [mount.path for mount in fuse_mounts() if mount.path.is_relative_to(tmp_path)]
    assert not list(tmp_path.iterdir())


class Checkout:
    """A copy of what script/setup needs, on a machine whose programs are stubs that write down how they were called."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "checkout"
        self.bin = directory / "bin"
        self.calls_path = directory / "calls"
        for part in ("script", "requirements"):
            shutil.copytree(ROOT / part, self.root / part)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin.mkdir()
        for program in ("bash", "cat", "dirname", "env", "mkdir", "cp", "rm", "sha256sum"):
            found = shutil.which(program)
            assert found is not None
            (self.bin / program).symlink_to(found)
        for program in ("gcc", "pkg-config", "apt-get", "fusermount3"):
            self.stub(program)
        self.stub("id", "case $1 in -u) echo 1000 ;; *) echo somebody ;; esac")
        # Answers where it is, makes an environment with itself in it, and accepts everything else.
        make = 'mkdir -p "$3/bin" && cp "$0" "$3/bin/python"'
        python = f'case "$*" in *sys.executable*) echo "$0" ;; "-m venv "*) {make} ;; esac'
        self.stub("python3", python)

    def stub(self, name: str, body: str = "exit 0") -> None:
        path = self.bin / name
        path.write_text(f'#!{self.bin}/bash\nPATH={self.bin}\necho "{name} $*" >>{self.calls_path}\n{body}\n')
        path.chmod(0o755)

    def setup(self, *needs: str) -> subprocess.CompletedProcess[str]:
        self.calls_path.write_text("")
        return subprocess.run(
            [self.root / "script" / "setup", *needs],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def installs(self) -> int:
        """How often the last setup had pip install something."""
        return self.calls_path.read_text().count("pip --disable-pip-version-check install")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_setup_does_only_what_has_changed(checkout: Checkout) -> None:
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert checkout.installs() == 3  # what builds, what is needed, the project

    again = checkout.setup()
    assert (again.returncode, again.stderr, checkout.installs()) == (0, "", 0)

    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert checkout.setup().returncode == 0
    assert checkout.installs() == 1

    with (checkout.root / "requirements" / "dev.txt").open("a") as file:
        file.write("# changed\n")
    assert checkout.setup().returncode == 0
    assert checkout.installs() == 3


def test_an_interrupted_setup_is_done_again(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    (checkout.root / ".venv" / "stamp-venv").unlink()
    assert checkout.setup().returncode == 0
    assert checkout.installs() == 3


def test_without_root_setup_says_what_to_install(checkout: Checkout) -> None:
    (checkout.bin / "gcc").unlink()
    done = checkout.setup()
    assert done.returncode == 1
    assert "apt-get install --yes --no-install-recommends gcc libc6-dev" in done.stderr
    assert "apt-get" not in checkout.calls_path.read_text()
    assert not (checkout.root / ".venv").exists()


def test_setup_installs_what_is_missing_with_sudo(checkout: Checkout) -> None:
    checkout.stub("sudo", 'shift; "$@"')
    (checkout.bin / "pkg-config").unlink()
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert "apt-get" in (calls := checkout.calls_path.read_text())
    assert "pkg-config libfuse3-dev" in calls


def test_continuous_integration_leaves_no_test_out() -> None:
    done = subprocess.run(
        [ROOT / ".ci" / "run"],
        env={**os.environ, SWITCH: "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert SWITCH in done.stderr


def collect(switch: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "tests/docker/test_engine.py"],
        cwd=ROOT,
        env={**os.environ, SWITCH: switch},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


@pytest.mark.slow
def test_tests_in_containers_are_left_out_by_one_switch_alone_and_visibly() -> None:
    assert "left out" not in collect("")
    assert "3 tests collected" in collect("")
    assert f"left out because of {SWITCH}=1: 3 tests in containers" in collect("1")
