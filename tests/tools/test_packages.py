"""pip, venv and npm, offline: packages are installed into the mount and run from there."""

import pytest

from tests.tools.twins import Twins, same_tree

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}

_WHEEL = """
import zipfile
with zipfile.ZipFile(out + "/greeting-1.0-py3-none-any.whl", "w") as wheel:
    files = {
        "greeting/__init__.py": "from .words import word",
        "greeting/words.py": "word = 'hello'",
        "greeting/data/table.txt": "data" * 30_000,
        "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n",
        "greeting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "greeting-1.0.dist-info/entry_points.txt": "[console_scripts]\\ngreet = greeting.cli:main\\n",
        "greeting/cli.py": "from greeting import word\\ndef main():\\n    print(word)\\n",
    }
    for name, content in files.items():
        wheel.writestr(name, content)
    wheel.writestr("greeting-1.0.dist-info/RECORD", "".join(f"{name},,\\n" for name in files))
"""
_PIP = '"$PYTHON" -m pip --isolated --disable-pip-version-check --no-cache-dir'
_NPM = "npm --offline --no-audit --no-fund --no-update-notifier --loglevel=error"


@pytest.mark.parametrize("compiling", ["--compile", "--no-compile"])
def test_pip_install_target(run_twins: Twins, compiling: str) -> None:
    """The package is imported from the mount; Python writes its byte code there where pip did not."""
    run_twins.python(_WHEEL)
    install = f'{_PIP} install -q --no-index {compiling} --target lib "$OUT"/*.whl'
    run_twins.both(
        f"""
        {install}; find lib | sort; PYTHONPATH=lib "$PYTHON" -c 'import greeting; print(greeting.word)'
        lib/bin/greet 2>&1 | tail -1
        PYTHONPATH=lib lib/bin/greet; find lib/greeting | sort; {install} --upgrade; {_PIP} list --path lib
        """
    )
    # These name times and paths.
    run_twins.both(
        'find lib -name "*.pyc" -delete; rm lib/*.dist-info/RECORD lib/*.dist-info/direct_url.json; rm "$OUT"/*.whl'
    )
    run_twins.same()


def test_venv(run_twins: Twins) -> None:
    """A virtual environment in a run: installed into, run from, and removed from."""
    run_twins.python(_WHEEL)
    run_twins.both(
        f"""
        "$PYTHON" -m venv --without-pip venv; . venv/bin/activate; python -c 'import sys; print(sys.prefix)'; deactivate
        {_PIP} --python venv/bin/python install -q --no-index "$OUT"/*.whl; venv/bin/greet; find venv | sort
        {_PIP} --python venv/bin/python uninstall -qy greeting 2>&1; find venv -path '*greet*'
        """
    )


def test_npm_install(run_twins: Twins) -> None:
    """A package that was packed here is installed with its link in .bin, found by node, and removed."""
    run_twins.both(
        f"""
        mkdir -p pkg/bin app; cd pkg; echo '{{"name":"hi","version":"1.0.0","bin":{{"hi":"bin/hi.js"}}}}' > package.json
        echo 'module.exports = "hello";' > index.js
        printf '#!/usr/bin/env node\\nconsole.log(require("..") + " from bin");\\n' > bin/hi.js; {_NPM} pack --silent
        cd ../app; echo '{{"name":"app","version":"1.0.0","scripts":{{"hi":"hi"}}}}' > package.json
        {_NPM} install --silent ../pkg/hi-1.0.0.tgz; readlink node_modules/.bin/hi; node_modules/.bin/hi
        node -e 'console.log(require("hi"))'; {_NPM} run --silent hi; {_NPM} ls | tail -2; find . | sort
        {_NPM} ci --silent
        node_modules/.bin/hi; cat package-lock.json
        """
    )
    same_tree(run_twins.mounted / "app/node_modules/hi", run_twins.local / "app/node_modules/hi", times=False)
    run_twins.both(f"cd app; {_NPM} uninstall --silent hi; ls -A; cat package.json")
    run_twins.same()
