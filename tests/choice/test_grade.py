"""The grade: flags first, and what was measured over them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.choice.auto_profile import HIGH_GOPS, MID_GOPS, Micro, grade
from edgeannot.probe import Board, Cluster, Cooling, Frequency, Limits, Processor, Python, RuntimeFacts

GIB = 1 << 30


def board(core="Cortex-A76", cores=4, int8=("neon", "dotprod"), family="arm", *, little=False, memory=8 * GIB, **facts):
    clusters = (Cluster(core, tuple(range(cores)), None if family != "arm" else not little),)
    processor = Processor(family, 64, clusters, cores, frozenset(), int8)
    return Board(machine="aarch64", processor=processor, memory_total_bytes=memory, **facts)


def micro(int8_gops, **more):
    return Micro(int8_gops, more.pop("float_gops", int8_gops), 4, 1.0, **more)


def test_a_board_of_which_nothing_is_known_is_low():
    assert grade(Board()).profile == "low"


@pytest.mark.parametrize(
    ("facts", "profile"),
    [
        (board(), "high"),
        (board(cores=1), "low"),
        (board(memory=GIB // 2), "low"),
        (board(memory=int(0.95 * GIB)), "high"),
        (board(memory=0), "high"),
        (board("Cortex-A55", little=True), "mid"),
        (board(limits=Limits(quota_cores=1.5)), "mid"),
        (board(limits=Limits(quota_cores=0.5)), "low"),
        (board(limits=Limits(cpus=(2,))), "low"),
        (board(limits=Limits(memory_bytes=256 << 20)), "low"),
        (board("Cortex-A72", int8=("neon",)), "mid"),
        (board("Cortex-A53", int8=("neon",), little=True), "low"),
        (board("old", 2, ("sse4.1",), "x86"), "low"),
        (board("old", 4, ("sse4.1",), "x86"), "mid"),
        (board("newer", 2, ("sse4.1", "avx2"), "x86"), "mid"),
        (board("new", 2, ("sse4.1", "avx2", "avx512-vnni"), "x86"), "high"),
        (board("x60", 8, ("rvv",), "riscv"), "low"),
    ],
)
def test_boards_are_graded_by_memory_cores_and_instructions(facts, profile):
    assert grade(facts).profile == profile
    assert all(grade(facts).reasons)


def test_processors_that_may_come_later_or_are_switched_off_are_none():
    """A virtual machine's mask names all that could be plugged in; a board's also the cores that are off."""
    processor = Processor(family="x86", clusters=(Cluster("guest", (0, 1)),), cores=2, int8=("sse4.1",))

    assert Board(processor=processor, limits=Limits(cpus=tuple(range(128)))).usable_cores == 2
    assert grade(Board(processor=processor, limits=Limits(cpus=tuple(range(128))))).profile == "low"
    assert Board(limits=Limits(cpus=(0, 1))).usable_cores == 2, "where the processor says nothing the mask counts"


def test_affinity_to_the_little_cores_makes_it_a_board_of_little_cores():
    clusters = (Cluster("Cortex-A53", (0, 1, 2, 3), False), Cluster("Cortex-A72", (4, 5), True))
    facts = Board(processor=Processor("arm", 64, clusters, 6, int8=("neon",)))

    assert grade(facts).profile == "mid"
    assert grade(Board(processor=facts.processor, limits=Limits(cpus=(0, 1, 2, 3)))).profile == "low"


@pytest.mark.parametrize(
    ("facts", "gops", "profile"),
    [
        (board(), 1.0, "low"),  # an emulator shows flags that it has to calculate
        (board(), (MID_GOPS + HIGH_GOPS) / 2, "mid"),  # throttled
        (board(), HIGH_GOPS, "high"),
        (board("Cortex-A53", int8=("neon",), little=True), MID_GOPS, "mid"),
        (board("Cortex-A53", int8=("neon",), little=True), 10 * HIGH_GOPS, "mid"),  # one step, however fast
        (board("Cortex-A72", int8=("neon",)), HIGH_GOPS, "high"),
        (board(memory=GIB // 2), HIGH_GOPS, "low"),  # speed is no memory
        (Board(), HIGH_GOPS, "mid"),
    ],
)
def test_what_was_measured_goes_over_the_flags(facts, gops, profile):
    assert grade(facts, micro(gops)).profile == profile


def test_a_busy_board_is_not_graded_down_for_what_others_took():
    found = grade(board(), micro(1.0, wait_share=0.5))

    assert found.profile == "high"
    assert "CPU contention 50%" in found.reason


def test_under_a_quota_waiting_is_what_was_measured():
    assert grade(board(limits=Limits(quota_cores=2.0)), micro(1.0, wait_share=0.5)).profile == "low"


def test_int8_that_is_slower_than_float_is_said():
    assert "int8 is slow in this runtime" in grade(board(), micro(10.0, float_gops=60.0)).reason


def test_what_should_be_known_with_the_grade_is_said_without_changing_it():
    facts = board(
        runtime=RuntimeFacts("tflite-runtime", "2.14.0", int8_xnnpack=False),
        python=Python("3.11.2", 32, "cpython-311-arm-linux-gnueabihf"),
        cooling=(Cooling("cpufreq-cpu0", 2, 9),),
        frequencies=(Frequency((0,), "powersave", 600, 2400, 600, 600),),
    )

    found = grade(facts)

    assert found.profile == "high"
    assert len(found.reasons) == 5


@given(gops=st.floats(0, 1e4), cores=st.integers(1, 8), memory=st.integers(1, 16 * GIB))
def test_measuring_lifts_by_one_step_at_most_and_never_a_board_without_memory(gops, cores, memory):
    facts = board(cores=cores, memory=memory)
    steps = ("low", "mid", "high")
    before, after = (steps.index(grade(facts, measured).profile) for measured in (None, micro(gops)))

    assert after <= before + 1
    assert memory >= 0.9 * GIB or after == 0
