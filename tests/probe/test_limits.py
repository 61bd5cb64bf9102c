"""Limits: control groups of both versions, walked up to their mount point, and the affinity."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.base.kernel import parse_cgroup, parse_mounts
from edgeannot.doctor.findings import Examined
from edgeannot.doctor.machine import processor
from edgeannot.probe import Limits
from edgeannot.probe.limits import parse_cpu_list, parse_cpu_max, read_limits, short_of_memory
from tests.e2e.daemons import COMMAND
from tests.patience import DEADLINE_S

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_an_empty_root_sets_no_limits(tmp_path):
    assert read_limits(tmp_path) == Limits()


def test_the_smallest_limit_on_the_way_up_holds(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/system.slice/edgeannot.service\n",
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/system.slice/memory.max": "536870912\n",
            "sys/fs/cgroup/system.slice/edgeannot.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/edgeannot.service/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/edgeannot.service/memory.high": "1073741824\n",
        },
    )

    assert read_limits(tmp_path) == Limits(quota_cores=1.5, memory_bytes=512 << 20, cgroup="v2")


def test_a_mount_that_shows_another_groups_part_does_not_count_where_one_shows_ours(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "29 23 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw\n" + V2,
            "proc/self/cgroup": "0::/mine\n",
            "mnt/other/cpu.max": "10000 100000\n",
            "sys/fs/cgroup/mine/cpu.max": "50000 100000\n",
        },
    )

    assert read_limits(tmp_path).quota_cores == 0.5


def test_version_1_writes_no_limit_as_minus_one_and_as_a_huge_number(tmp_path):
    # As a kernel of a hybrid system shows it: controllers in version 1, an empty hierarchy of version 2 beside them.
    write(
        tmp_path,
        {
            "proc/self/mountinfo": (
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
                "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
                "36 31 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
            ),
            "proc/self/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n0::/elsewhere\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/unified/elsewhere/cpu.max": "1000 100000\n",
        },
    )

    assert read_limits(tmp_path) == Limits(quota_cores=0.5, cgroup="v1")


def test_a_container_sees_its_own_group_at_the_mount_point(tmp_path):
    """Without a namespace of its own, its path in /proc/self/cgroup is the host's, which the mount leaves out."""
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "275 271 0:28 /docker/f23e /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "proc/self/cgroup": "0::/docker/f23e\n",
            "sys/fs/cgroup/cpu.max": "25000 100000\n",
        },
    )

    assert read_limits(tmp_path).quota_cores == 0.25


@pytest.mark.parametrize("path", ["/../../other", "/docker/another", "not/absolute"])
def test_a_group_that_cannot_be_seen_gives_the_limits_at_the_mount_point(tmp_path, path):
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "275 271 0:28 /docker/f23e /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "proc/self/cgroup": f"0::{path}\n",
            "sys/fs/cgroup/memory.max": "1048576\n",
            "memory.max": "1\n",
        },
    )

    assert read_limits(tmp_path).memory_bytes == 1 << 20


def test_a_limit_in_which_no_model_runs_is_said_with_advice(tmp_path):
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    group = "275 271 0:28 /docker/f23e /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    write(tmp_path, {"proc/self/mountinfo": group, "proc/self/cgroup": "0::/docker/f23e\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert short_of_memory(tmp_path) == ""
    limit.write_text(str(96 << 20))
    assert short_of_memory(tmp_path) == ""
    limit.write_text(str(64 << 20))

    assert short_of_memory(tmp_path).startswith("64 MB of memory may be used, and the smallest model needs 96 MB: ")
    assert [each.code for each in processor(Examined(None, root=tmp_path))] == ["memory"]


def test_a_run_says_it_before_it_loads_what_may_not_fit(tmp_path):
    """Whether it ends in a crash depends on the libraries."""
    words = shlex.join([*COMMAND, "run", "--once", "--profile", "low", "--watch", str(tmp_path), "--data-dir", str(tmp_path / "data")])
    done = subprocess.run(["sh", "-c", f"ulimit -v 400000; {words}"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert "390 MB of addresses may be used (ulimit -v), and the libraries need 512 MB" in done.stderr.splitlines()[0]


def test_affinity_comes_before_the_cpuset_of_the_group(tmp_path):
    files = {"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpuset.cpus.effective": "0-3\n"}
    write(tmp_path, files)
    assert read_limits(tmp_path).cpus == (0, 1, 2, 3)

    write(tmp_path, {"proc/self/status": "Name:\tpython\nCpus_allowed:\t2\nCpus_allowed_list:\t1\n"})
    assert read_limits(tmp_path).cpus == (1,)


def test_mount_points_with_blanks_are_written_in_octal():
    (mount,) = parse_mounts(r"30 23 0:26 / /mnt/c\040group rw - cgroup2 cgroup2 rw")

    assert (mount.point, mount.version) == ("/mnt/c group", 2)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", ()), ("0", (0,)), ("0-2,5\n", (0, 1, 2, 5)), ("3-1", ()), ("a,2", (2,)), ("0 1", ()), ("0-99999", ())],
)
def test_lists_of_processors_are_ranges_with_commas(text, numbers):
    assert parse_cpu_list(text) == numbers


@pytest.mark.parametrize(("text", "cores"), [("", None), ("max 100000", None), ("50000 100000", 0.5), ("1 0", None), ("x y", None)])
def test_a_quota_is_time_over_period(text, cores):
    assert parse_cpu_max(text) == cores


@given(st.text(max_size=200))
def test_no_text_makes_the_parsers_raise(text):
    parse_mounts(text)
    parse_cgroup(text)
    assert all(number >= 0 for number in parse_cpu_list(text))
    assert parse_cpu_max(text) is None or parse_cpu_max(text) >= 0


@given(mountinfo=st.text(max_size=80), cgroup=st.text(max_size=80))
def test_no_files_make_the_reader_raise(tmp_path_factory, mountinfo, cgroup):
    root = tmp_path_factory.mktemp("root")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(f"1 2 3:4 / {mountinfo} rw - cgroup2 x rw\n{V2}", encoding="utf-8")
    (root / "proc/self/cgroup").write_text(f"0::/{cgroup}", encoding="utf-8")

    assert read_limits(root).cpus == ()
