"""Lockstep without ROS: simulator, cameras and recorder, each alone, and all of them in one simulation."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from worldfm_ros.nodes.lockstep import Barrier, Receipts, StepWork
from worldfm_ros.nodes.tf_history import SECOND

TENTH = SECOND // 10


def test_the_barrier_waits_for_all_that_must_take_part():
    barrier = Barrier(["a", "b"], start=TENTH)
    assert barrier.missing() == ["a", "b"]
    barrier.answer("a", TENTH)
    assert barrier.missing() == ["b"]
    barrier.answer("b", TENTH)
    assert barrier.missing() == []
    barrier.begin(2 * TENTH)
    assert (barrier.previous, barrier.stamp, barrier.missing()) == (TENTH, 2 * TENTH, ["a", "b"])


def test_an_answer_to_another_step_does_not_count():
    barrier = Barrier(["a"], start=TENTH)
    barrier.begin(2 * TENTH)
    barrier.answer("a", TENTH)
    assert barrier.missing() == ["a"]


def test_who_joins_is_waited_for_until_it_leaves_and_who_is_required_always():
    barrier = Barrier(["a"], start=TENTH)
    barrier.answer("guest", TENTH)
    barrier.begin(2 * TENTH)
    assert barrier.missing() == ["a", "guest"]
    barrier.answer("guest", 0, leaving=True)
    barrier.answer("a", 2 * TENTH)
    assert barrier.missing() == []
    barrier.answer("a", 0, leaving=True)
    assert barrier.missing() == ["a"], "it will be started again"


@given(st.lists(st.integers(1, 5 * SECOND), min_size=1, max_size=30), st.integers(10**6, SECOND), st.data())
def test_every_tick_is_asked_for_once_however_long_the_steps_are(steps, period, data):
    """Steps of any length, some repeated, some done by a camera that has just been restarted."""
    work, stamp, asked = StepWork(period), 10 * SECOND, []
    for step in steps:
        previous, stamp = stamp, stamp + step
        if data.draw(st.booleans()):
            work = StepWork(period)  # killed, and started again
        ticks = work.begin(previous, stamp)
        assert work.begin(previous, stamp) is None, "a repeated step asks for nothing"
        asked += ticks
        ends = [work.finish(tick) for tick in data.draw(st.permutations(ticks))]
        assert ends == [None] * (len(ticks) - 1) + [stamp] * bool(ticks), "the last one ends the step"
        assert work.finished == stamp and work.open == []
    assert asked == [tick for tick in range(0, stamp + 1, period) if tick > 10 * SECOND]


def test_a_camera_that_dies_at_work_owes_the_same_ticks():
    work = StepWork(TENTH)
    assert work.begin(0, SECOND) == [SECOND], "a simulator that tells no previous step asks for its own stamp"
    assert work.begin(SECOND, SECOND) == [], "the first step of a simulation"
    ticks = work.begin(SECOND, SECOND + 3 * TENTH)
    work.finish(ticks[0])
    assert work.finished is None and work.open == ticks[1:]
    assert StepWork(TENTH).begin(SECOND, SECOND + 3 * TENTH) == ticks


def test_what_finishes_after_the_simulation_has_gone_on_does_not_end_the_new_step():
    work = StepWork(TENTH)
    (old,) = work.begin(SECOND, SECOND + TENTH)
    (new,) = work.begin(SECOND + TENTH, SECOND + 2 * TENTH)
    assert work.finish(old) is None and work.open == [new]


def test_a_step_is_recorded_when_all_that_was_published_for_it_has_come():
    receipts = Receipts(["/eye", "/robot"], ["/image", "/tf"])
    receipts.step = SECOND
    assert receipts.missing() == ["an answer of /eye", "an answer of /robot"]
    receipts.published("/eye", SECOND, SECOND, ["/image", "/not_recorded"])
    receipts.published("/robot", SECOND, SECOND, ["/tf"])
    assert receipts.missing() == ["/image of 1.000000000", "/tf of 1.000000000"]
    assert receipts.received("/image", SECOND, bytes(10_000)) and receipts.received("/tf", SECOND, b"pose")
    assert receipts.missing() == []
    receipts.step = 2 * SECOND
    assert receipts.missing() == ["an answer of /eye", "an answer of /robot"]
    receipts.published("/eye", 2 * SECOND, SECOND, ["/image"])  # its rate has no frame in this step
    receipts.published("/robot", 2 * SECOND, 2 * SECOND, ["/tf"])
    assert receipts.missing() == ["/tf of 2.000000000"]


def test_what_comes_twice_is_known():
    receipts = Receipts([], ["/image", "/tf"])
    image = bytes(10_000)
    assert receipts.received("/image", 1, image) and receipts.received("/image", 2, image), "a camera that stands still"
    assert not receipts.received("/image", 1, image) and not receipts.received("/image", 2, image)
    assert receipts.received("/tf", 1, b"a") and receipts.received("/tf", 1, b"b"), "two publishers, one stamp"
    assert not receipts.received("/tf", 1, b"a")


@pytest.mark.parametrize("seed", range(5))
def test_no_frame_is_lost_whatever_messages_are(seed):
    """Barrier, two cameras and a recorder over a network that loses, doubles and delays; cameras die and come back."""
    import random

    chance = random.Random(seed)
    periods = {"a": TENTH, "b": 3 * TENTH // 2}
    barrier = Barrier([*periods, "recorder"], start=SECOND)
    works = {name: StepWork(period) for name, period in periods.items()}
    newest, recorded = dict.fromkeys(periods, 0), {name: set() for name in periods}
    receipts = Receipts(periods, periods)
    end = 6 * SECOND

    def camera(name):
        if chance.random() < 0.1:
            works[name], newest[name] = StepWork(periods[name]), 0
        for tick in works[name].begin(barrier.previous, barrier.stamp) or ():
            receipts.received(name, tick, bytes(5000))  # images come in order, reliably
            recorded[name].add(tick)
            newest[name] = tick
            works[name].finish(tick)
        if works[name].finished == barrier.stamp:
            if chance.random() < 0.7:
                barrier.answer(name, barrier.stamp)
            if chance.random() < 0.7:
                receipts.published(name, barrier.stamp, newest[name], [name])

    while barrier.stamp < end:
        receipts.step = barrier.stamp
        for name in chance.sample([*periods], chance.randint(0, 2)):
            camera(name)
        if not receipts.missing() and chance.random() < 0.7:
            barrier.answer("recorder", barrier.stamp)
        if not barrier.missing():
            barrier.begin(barrier.stamp + TENTH)
    for name, period in periods.items():
        due = {tick for tick in range(0, end, period) if SECOND < tick}
        assert recorded[name] - {end} == due - {end}
