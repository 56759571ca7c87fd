"""What lies around a command: the working directory, the home directories and engines of others have no say."""

import os
import subprocess
import sysconfig
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine import registry
from engine.config import load_settings
from engine.registry import load_engine

FUSEFS = Path(sysconfig.get_path("scripts")) / "fusefs"
HOSTILE = '[object_store]\npipeline_object_limit = 1\n[object_store.sqlite]\npath = "/tmp/hostile.db"\n'
NAMES = ["fusefs.toml", ".fusefs.toml", "config.toml", "fusefs/config.toml", ".config/fusefs/config.toml", ".env"]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that somebody has prepared."""
    directory = tmp_path / "hostile"
    for name in NAMES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(HOSTILE)
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.parametrize("user", [0, 1000])
def test_no_configuration_comes_from_the_working_directory(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os.path, "exists", lambda path: str(path) != "/etc/fusefs.toml" and Path(path).exists())
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings(environ={})
    assert settings.object_store.pipeline_object_limit is None
    assert "hostile" not in settings.object_store.path


def test_root_reads_no_configuration_of_a_user(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the home directory is still that of whoever became root (su, sudo -E)."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os.path, "exists", lambda path: str(path) != "/etc/fusefs.toml" and Path(path).exists())
    monkeypatch.setenv("HOME", str(hostile))
    environ = {"HOME": str(hostile), "XDG_CONFIG_HOME": f"{hostile}/.config", "XDG_STATE_HOME": str(hostile)}
    settings = load_settings(environ=environ)
    assert settings.object_store.pipeline_object_limit is None
    assert settings.object_store.path == "/var/lib/fusefs/objects.db"


def test_no_module_comes_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("click", "msgspec", "apsw", "engine", "fusefs", "trio", "pyfuse3", "rich", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FUSEFS_CONFIG": os.devnull}
    environment["FUSEFS_STORE"] = str(tmp_path / "objects.db")
    for arguments in (["pipeline", "create", "app"], ["pipeline", "list", "--json"], ["status"]):
        done = subprocess.run(
            [FUSEFS, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert "of the working directory" not in done.stdout + done.stderr
        assert done.stderr == "", arguments


def test_an_engine_that_nobody_asked_for_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is installed: its code runs only where its name was given."""
    (tmp_path / "hostile_engine.py").write_text("raise SystemExit('loaded')")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("hostile", "hostile_engine:Engine", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "_entry_points", lambda: [entry])
    assert "hostile" in registry.engine_names()
    load_engine("memory", {}).close()
    load_settings(environ={"FUSEFS_CONFIG": os.devnull, "FUSEFS_STORE": "sqlite:/srv/objects.db"})
    with pytest.raises(SystemExit, match="loaded"):
        load_engine("hostile", {})
