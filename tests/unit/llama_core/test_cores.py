"""Cores: by the affinity, and by the CPU quota of a control group, whichever is less."""

import os

import pytest

from llama_core.cores import usable_cores

MACHINE = usable_cores()


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)


def cores(tmp_path, groups, files):
    proc = tmp_path / "cgroup"
    proc.write_text(groups)
    for name, content in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return usable_cores(proc, tmp_path / "fs")


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "none", tmp_path) == 8


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("max 100000", 8), ("150000 100000", 2), ("1000 100000", 1),
     ("6400000 100000", 8), ("", 8), ("nonsense", 8)],
)  # fmt: skip
def test_a_quota_of_version_2_is_seen_from_inside_a_container(tmp_path, limit, expected):
    assert cores(tmp_path, "0::/\n", {"cpu.max": limit}) == expected


def test_the_smallest_quota_of_all_groups_around_counts(tmp_path):
    files = {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert cores(tmp_path, "0::/a/b\n", files) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("folder", ["docker/7f", "."])
def test_a_quota_of_version_1_is_seen_from_inside_and_outside(tmp_path, mount, folder):
    files = {
        f"{mount}/{folder}/cpu.cfs_quota_us": "400000",
        f"{mount}/{folder}/cpu.cfs_period_us": "100000",
    }
    groups = "5:memory:/docker/7f\n4:cpu,cpuacct:/docker/7f\n0::/\n"
    assert cores(tmp_path, groups, files) == 4


def test_no_quota_of_version_1_is_no_limit(tmp_path):
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert cores(tmp_path, "1:cpu:/\n", files) == 8


def test_python_s_own_count_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert usable_cores(tmp_path / "none", tmp_path) == 3


def test_the_real_machine_has_a_core():
    assert 1 <= MACHINE <= 4096
