"""An engine from a package that fusefs has never heard of is found and passes the shipped suite."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from engine.conformance import EngineConformance
from engine.registry import engine_names
from tests.support.third_party_install import PACKAGE, third_party_environment

SUITE = """
from pathlib import Path

from engine.conformance import EngineConformance
from engine.interface import ObjectEngine
from engine.registry import load_engine


class TestDirectoryEngine(EngineConformance):
    def make_engine(self, directory: Path) -> ObjectEngine:
        return load_engine("dirstore", {"location": str(directory / "values")})
"""


def run_python(site: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python somewhere away from this checkout, with the package installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=third_party_environment(site),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_package_is_really_installed(dirstore_site: Path) -> None:
    assert (dirstore_site / "fusefs_dirstore-0.1.0.dist-info" / "entry_points.txt").is_file()
    assert (dirstore_site / "fusefs_dirstore.py").read_bytes() == (PACKAGE / "fusefs_dirstore.py").read_bytes()


def test_it_is_found_where_it_is_installed_and_only_there(dirstore_site: Path, tmp_path: Path) -> None:
    program = "from engine.registry import engine_names; print(*engine_names())"
    done = run_python(dirstore_site, tmp_path, "-c", program)
    assert done.stdout.split() == sorted([*engine_names(), "dirstore"]), done.stderr
    assert "dirstore" not in engine_names()


def test_its_values_outlive_the_process(dirstore_site: Path, tmp_path: Path) -> None:
    opened = "from engine.registry import load_engine; engine = load_engine('dirstore', {'location': 'values'});"
    done = run_python(dirstore_site, tmp_path, "-c", f"{opened} engine.put_object('a/b', b'kept')")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "values").iterdir()] == ["va%2Fb"]
    done = run_python(dirstore_site, tmp_path, "-c", f"{opened} print(engine.get_object('a/b'))")
    assert done.stdout == "b'kept'\n", done.stderr


def test_four_methods_are_all_that_it_has(dirstore_site: Path, tmp_path: Path) -> None:
    program = (
        "from engine.interface import ObjectEngine; from fusefs_dirstore import DirectoryEngine;"
        "print(*sorted(name for name in vars(DirectoryEngine) if not name.startswith('_')))"
    )
    done = run_python(dirstore_site, tmp_path, "-c", program)
    assert done.stdout.split() == ["delete_object", "get_object", "list_object_keys", "put_object"], done.stderr


def test_it_passes_the_conformance_suite(dirstore_site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_dirstore.py").write_text(SUITE)
    # With no plugin but pytest's own: a third party need not have ours.
    options = ["-p", "no:cacheprovider", "-W", "error", "--rootdir", str(tmp_path), "-c", "/dev/null", "-q"]
    done = run_python(
        dirstore_site, tmp_path, "-m", "pytest", "--disable-plugin-autoload", *options, "test_dirstore.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(r"(?m)^(\d+) passed in [^,]*$", done.stdout)
    tests = [name for name, _ in inspect.getmembers(EngineConformance) if name.startswith("test_")]
    assert summary is not None, done.stdout
    assert int(summary[1]) >= len(tests) > 20
