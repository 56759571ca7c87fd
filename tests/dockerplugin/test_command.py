"""The command `fusefs docker-plugin` before it serves: what it needs, and what it says without it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fusefs" / "dockerplugin"
HTTP = {"starlette", "hypercorn", "http"}


def run(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FUSEFS_")}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-c", code, "docker-plugin", *arguments],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 60, **options},  # type: ignore[call-overload]
    )
    return done


MAIN = "from fusefs.cli import main; main()"


@pytest.mark.parametrize("package", ["hypercorn", "starlette"])
def test_without_the_extra_it_says_what_to_install(package: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; {MAIN}"
    done = run(code, "--directory", str(tmp_path / "docker"), "--socket", str(tmp_path / "sock"))
    assert done.returncode == 1
    assert done.stderr == f"fusefs: there is no {package}: pip install 'fusefs[docker-plugin]'\n"
    assert os.listdir(tmp_path) == []


def test_it_needs_root(tmp_path: Path) -> None:
    code = f"import os; os.geteuid = lambda: 1000; {MAIN}"
    done = run(code, "--directory", str(tmp_path / "docker"), "--store", str(tmp_path / "objects.db"))
    assert done.returncode == 1
    assert done.stderr == "fusefs: docker-plugin needs root, as the engine does: it mounts for containers\n"
    assert os.listdir(tmp_path) == []


def test_wrong_settings_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = run(MAIN, "--directory", str(tmp_path / "docker"), "--log-level", "loud")
    assert done.returncode == 2
    assert done.stderr.startswith("fusefs: flag --log-level: mount.log_level = 'loud' is not allowed")
    assert os.listdir(tmp_path) == []


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_the_protocol_and_the_volumes_do_not_know_each_other(path: Path) -> None:
    names = imported(path)
    if path.stem == "protocol":
        ours = {name for name in names if name.startswith("fusefs.")}
        assert ours == {"fusefs.dockerplugin.described", "fusefs.dockerplugin.errors"}
    elif path.stem != "server":
        assert not HTTP & {name.partition(".")[0] for name in names}
        assert "fusefs.dockerplugin.protocol" not in names
