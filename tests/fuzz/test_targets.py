"""Every target on a few hundred inputs, and on all that once were findings. `script/fuzz` runs them by the million."""

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import registry

EXAMPLES = {"cli": 120, "operations": 150, "volume_protocol": 150, "journal": 150}
"""Of the targets that take milliseconds for each; of the others there are more."""

BROKEN = {
    "cli": "fusefs.cli.pipeline.open_for",
    "config": "engine.config.checked",
    "journal": "engine.recovering.journal.read",
    "operations": "fusefs.namespace.Namespace.make_directory",
    "proc": "fusefs.mountinfo._unescape",
    "urls": "engine.config._split_url",
    "volume_options": "fusefs.dockerplugin.options.check_name",
    "volume_protocol": "fusefs.dockerplugin.driver.parse",
    "volume_state": "fusefs.dockerplugin.state._decode",
    "xattrs": "engine.xattrs._unpack",
}
"""Something of the product for each target that can be made to fail."""


def inputs(seeds: tuple[bytes, ...], words: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Any bytes; and such as the target knows, with others between them."""
    pieces = st.one_of(st.sampled_from(seeds), st.sampled_from(words), st.binary(max_size=12))
    return st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=10).map(b"".join))


@pytest.mark.parametrize("name", registry.TARGETS)
def test_inputs_of_all_kinds(name: str) -> None:
    target = registry.target(name)

    # Derandomized, so that a run fails for a change and not by chance.
    @settings(
        max_examples=EXAMPLES.get(name, 250), deadline=None, derandomize=True, suppress_health_check=[*HealthCheck]
    )
    @given(inputs(target.SEEDS, target.WORDS))
    def check(data: bytes) -> None:
        target.run(data)

    check()


FINDINGS = [(name, path) for name in registry.TARGETS for path in registry.corpus(name)]


@pytest.mark.parametrize(("name", "path"), FINDINGS, ids=[f"{name}-{path.name}" for name, path in FINDINGS])
def test_what_was_found_stays_mended(name: str, path: Path) -> None:
    registry.target(name).run(path.read_bytes())


@pytest.mark.parametrize("name", registry.TARGETS)
def test_a_target_notices_what_nobody_expects(name: str) -> None:
    target = registry.target(name)
    for seed in target.SEEDS:
        target.run(seed)
    with mock.patch(BROKEN[name], side_effect=ZeroDivisionError("on purpose")), pytest.raises(Exception):  # noqa: B017, PT011 (each raises its own)
        for seed in target.SEEDS:
            target.run(seed)


def test_all_targets_are_listed() -> None:
    files = (Path(registry.__file__).parent / "targets").glob("*.py")
    assert sorted(file.stem for file in files) == sorted(registry.TARGETS) == sorted(BROKEN)


def test_a_corpus_belongs_to_a_target() -> None:
    found = {path.name for path in registry.CORPUS.iterdir()} if registry.CORPUS.exists() else set()
    assert found <= set(registry.TARGETS)
