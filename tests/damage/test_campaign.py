"""A slice of the campaign: whatever is damaged, no byte is another one. `script/damage` does it by the thousand."""

from pathlib import Path
from unittest import mock

from tests.damage.campaign import Report, run


def total(place: Path, times: int, **options: int) -> Report:
    report = Report()
    for part in run(place, times, "slice", names=8, **options):
        report.add(part)
    return report


def test_damage_of_every_kind(tmp_path: Path) -> None:
    report = total(tmp_path, 40)
    assert report.findings == []
    assert report.times == 40
    assert report.total("failed") > 20
    assert report.repair["kept"] > 0
    assert report.check["found"] > 0
    assert not [what for what in report.check if what.endswith(("db, not cut", "data, not cut", "wal, not cut"))]


def test_damaged_stores_behind_mounts(tmp_path: Path) -> None:
    report = total(tmp_path, 0, mounts=2)
    assert report.findings == []
    assert report.mounts["read: right"] > 0


def test_the_campaign_finds_bytes_that_are_others(tmp_path: Path) -> None:
    """With the hashes of values out of use."""
    with (
        mock.patch("engine.sqlite.extents.is_whole", return_value=True),
        mock.patch("engine.sqlite.values.check_small"),
        mock.patch("engine.sqlite.small.check_small"),
    ):
        report = total(tmp_path, 12)
    assert any("wrong" in finding for finding in report.findings)
