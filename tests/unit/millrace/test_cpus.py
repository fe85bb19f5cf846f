"""CPUs beside a device, and threads that share them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.cpus import cpus_near, fair_threads, own_cpus

BUS_ID = "0000:18:00.0"


def _sysfs(folder: Path, listed: str) -> Path:
    (folder / BUS_ID).mkdir()
    (folder / BUS_ID / "local_cpulist").write_text(f"{listed}\n")
    return folder


def test_a_worker_gets_the_cpus_on_its_devices_node(tmp_path: Path) -> None:
    # Given a machine whose first CPU of ours is the only one beside the device
    first = min(own_cpus())

    assert cpus_near(BUS_ID, _sysfs(tmp_path, f"{first},9000-9007")) == {first}


@pytest.mark.parametrize("listed", ["", "9000-9003"])
def test_where_none_of_ours_is_near_all_are_as_good(tmp_path: Path, listed: str) -> None:
    assert cpus_near(BUS_ID, _sysfs(tmp_path, listed)) == own_cpus()


def test_where_the_kernel_does_not_say_all_are_as_good(tmp_path: Path) -> None:
    assert cpus_near(BUS_ID, tmp_path) == own_cpus()


def test_ranges_and_single_cpus_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.cpus.own_cpus", lambda: frozenset(range(100)))

    assert cpus_near(BUS_ID, _sysfs(tmp_path, "0-2,50,97-98")) == {0, 1, 2, 50, 97, 98}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([range(8)], [8]),
        ([range(8)] * 2, [4, 4]),
        ([range(3)] * 3, [1, 1, 1]),
        ([range(2)] * 8, [1] * 8),
        # two nodes: two devices at the first, one at the second
        ([range(8), range(8), range(8, 16)], [4, 4, 8]),
    ],
)
def test_processes_that_share_cpus_share_the_threads(shares: list[range], expected: list[int]) -> None:
    assert fair_threads([frozenset(cpus) for cpus in shares]) == expected


@given(st.lists(st.frozensets(st.integers(0, 31), min_size=1), min_size=1, max_size=8))
def test_there_are_no_more_threads_than_cpus_but_one_for_each(shares: list[frozenset[int]]) -> None:
    threads = fair_threads(shares)

    assert min(threads) >= 1
    assert sum(threads) <= max(len(frozenset[int]().union(*shares)), 0) + len(shares)
    assert all(count <= len(cpus) for count, cpus in zip(threads, shares, strict=True))
