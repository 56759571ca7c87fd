"""What -o takes, what it ignores because it asks for nothing, and what it refuses."""

import click
import pytest

from engine.config_values import LOG_FILE, PIPELINE_OBJECT_LIMIT, Given
from fusefs.cli.mount_options import HARMLESS, SETTINGS, parse


def test_nothing() -> None:
    parsed = parse([])
    assert (parsed.read_only, parsed.allow_other, parsed.settings) == (None, False, ())


def test_read_only_and_what_is_said_last() -> None:
    assert parse(["ro"]).read_only is True
    assert parse(["rw"]).read_only is False
    assert parse(["ro,rw"]).read_only is False
    assert parse(["rw", "ro"]).read_only is True


def test_settings() -> None:
    parsed = parse(["allow_other,pipeline_object_limit=3", "log_file=/a=b"])
    assert parsed.allow_other
    assert parsed.settings == (
        Given("flag -o pipeline_object_limit", PIPELINE_OBJECT_LIMIT, "3"),
        Given("flag -o log_file", LOG_FILE, "/a=b"),
    )


def test_what_fstab_says_besides() -> None:
    assert parse([",".join([*HARMLESS, "x-systemd.automount", ""])]) == parse([])


@pytest.mark.parametrize(
    "option", ["noexec", "sync", "suid", "nonsense", "allow_root", "ro=1", "RO", "store=x", "noatime=1"]
)
def test_what_would_not_do_what_it_says_is_refused(option: str) -> None:
    with pytest.raises(click.UsageError, match="unknown mount option"):
        parse(["rw", f"noatime,{option}"])


def test_a_mistake_is_told_with_what_was_meant() -> None:
    with pytest.raises(click.UsageError, match=r"did you mean run_object_expiry\?"):
        parse(["run_object_expiri=2"])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_needs_a_value(name: str) -> None:
    with pytest.raises(click.UsageError, match="needs a value"):
        parse([name])
