"""The TF buffer against an independent oracle (4x4 matrices and SciPy's Slerp) and against tf2's rules."""

from __future__ import annotations

from dataclasses import dataclass
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from worldfm_ros.geometry import Pose
from worldfm_ros.tf.buffer import TransformBuffer
from worldfm_ros.tf.history import (
    ExtrapolationFuture,
    ExtrapolationPast,
    InvalidTransform,
    NotConnected,
    OutdatedTransform,
    TimeJump,
    TransformError,
    TransformGap,
    TransformLoop,
    UnknownFrame,
)

SECOND = 10**9
seeds = st.integers(0, 2**32 - 1)


def s(value: float) -> int:
    """Seconds as nanoseconds."""
    return round(value * SECOND)


def insert(buffer, parent, child, stamp, x=0.0, yaw=0.0, static=False):
    """A transform `stamp` seconds in, `x` metres along x, `yaw` radians about z."""
    buffer.insert(parent, child, s(stamp), (x, 0.0, 0.0), (0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)), static)


def x_of(pose: Pose) -> float:
    return pose.translation[0]


def distance(a: Pose, b: Pose) -> float:
    return np.abs(a.matrix - b.matrix).max()


# ---- a random tree of frames, and the oracle

@dataclass
class Link:
    parent: str
    child: str
    stamps: np.ndarray  # (N,) ns; one for a static link
    translations: np.ndarray  # (N, 3)
    quaternions: np.ndarray  # (N, 4)
    static: bool

    def matrix(self, stamp: int) -> np.ndarray:
        T = np.eye(4)
        if self.static:
            T[:3, :3], T[:3, 3] = Rotation.from_quat(self.quaternions[0]).as_matrix(), self.translations[0]
        else:
            times = (self.stamps - self.stamps[0]) / SECOND
            now = (stamp - self.stamps[0]) / SECOND
            T[:3, :3] = Slerp(times, Rotation.from_quat(self.quaternions))(now).as_matrix()
            T[:3, 3] = [np.interp(now, times, column) for column in self.translations.T]
        return T


def random_tree(rng, size=8, static_share=0.3) -> list[Link]:
    """Frames f0 (the root) to f<size - 1>; moving links have samples from 100 s to 109 s at irregular times, at most
    1 s apart."""
    links = []
    for i in range(1, size):
        static = rng.random() < static_share
        periods = rng.integers(1, s(rng.choice([0.3, 1.0])), 100, endpoint=True)
        stamps = s(100) + np.concatenate([[0], np.cumsum(periods)])
        stamps = [s(50)] if static else stamps[:np.searchsorted(stamps, s(109)) + 1]
        n = len(stamps)
        links.append(Link(f"f{rng.integers(0, i)}", f"f{i}", np.array(stamps), rng.normal(size=(n, 3)) * 3,
                          Rotation.random(n, random_state=rng.integers(2**31)).as_quat(), static))
    return links


def fill(buffer, links, order=None):
    samples = [(link, i) for link in links for i in range(len(link.stamps))]
    for index in order if order is not None else range(len(samples)):
        link, i = samples[index]
        buffer.insert(link.parent, link.child, int(link.stamps[i]), link.translations[i], link.quaternions[i],
                      link.static)
    return len(samples)


def oracle(links, target, source, stamp) -> np.ndarray:
    def to_root(frame):
        T = np.eye(4)
        while frame != "f0":
            link = next(link for link in links if link.child == frame)
            T, frame = link.matrix(stamp) @ T, link.parent
        return T
    return np.linalg.inv(to_root(target)) @ to_root(source)


def test_a_thousand_random_lookups_equal_the_oracle():
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(25):
        links, buffer = random_tree(rng), TransformBuffer()
        fill(buffer, links)
        for stamp in rng.integers(s(100), s(109), 40).tolist():
            target, source = (f"f{i}" for i in rng.choice(8, 2, replace=False))
            found = buffer.lookup(target, source, stamp)
            np.testing.assert_allclose(found.matrix, oracle(links, target, source, stamp), atol=1e-9, rtol=0)
            checked += 1
    assert checked == 1000


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_inverse_and_composition_through_any_frame(seed):
    rng = np.random.default_rng(seed)
    links, buffer = random_tree(rng), TransformBuffer()
    fill(buffer, links)
    stamp = int(rng.integers(s(100), s(109)))
    a, b, c = (f"f{i}" for i in rng.choice(8, 3, replace=False))
    T_a_b, T_b_c, T_a_c = (buffer.lookup(*pair, stamp) for pair in ((a, b), (b, c), (a, c)))
    assert distance(T_a_b @ T_b_c, T_a_c) < 1e-9
    assert distance(buffer.lookup(b, a, stamp), T_a_b.inverse()) < 1e-9
    assert distance(buffer.lookup(a, a, stamp), Pose.identity()) == 0.0


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_the_order_of_arrival_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    links, in_order, shuffled = random_tree(rng), TransformBuffer(), TransformBuffer()
    fill(shuffled, links, rng.permutation(fill(in_order, links)))
    for stamp in rng.integers(s(100), s(109), 5).tolist():
        assert distance(in_order.lookup("f1", "f7", stamp), shuffled.lookup("f1", "f7", stamp)) == 0.0


# ---- tf2's rules

def test_a_sample_at_the_stamp_is_given_exactly():
    buffer, rng = TransformBuffer(), np.random.default_rng(3)
    poses = [Pose(Rotation.random(random_state=i), rng.normal(size=3)) for i in range(5)]
    for i, pose in enumerate(poses):
        buffer.insert("map", "base", s(i + 1), pose.translation, pose.quaternion)
    for i, pose in enumerate(poses):
        found = buffer.lookup("map", "base", s(i + 1))
        np.testing.assert_array_equal(found.translation, pose.translation)
        np.testing.assert_allclose(found.quaternion, pose.quaternion, atol=1e-15, rtol=0)


def test_static_transforms_hold_at_any_time_and_a_newer_one_replaces_them():
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", 50, x=1, static=True)
    assert [x_of(buffer.lookup("base", "camera", stamp)) for stamp in (1, s(50), s(10**6), None)] == [1.0] * 4
    insert(buffer, "base", "camera", 20, x=2, static=True)
    assert x_of(buffer.lookup("base", "camera", s(50))) == 2.0
    assert buffer.latest_common_stamp("base", "camera") is None


def test_latest_is_the_newest_time_common_to_all_links():
    buffer = TransformBuffer()
    for stamp in (1, 2, 3):
        insert(buffer, "map", "odom", stamp, x=stamp)
    for stamp in (1, 2.5):
        insert(buffer, "odom", "base", stamp)
    insert(buffer, "base", "camera", 0, static=True)
    assert buffer.latest_common_stamp("map", "camera") == s(2.5)
    assert x_of(buffer.lookup("map", "camera", None)) == 2.5
    with pytest.raises(ExtrapolationPast):
        buffer.lookup("map", "camera", 0)  # a stamp like any other


def test_history_is_ten_seconds():
    buffer = TransformBuffer()
    for stamp in range(1, 31):
        insert(buffer, "map", "base", stamp, x=stamp)
    assert x_of(buffer.lookup("map", "base", s(20))) == 20.0
    with pytest.raises(ExtrapolationPast, match=r"time 19\.999999999 but the earliest data is at time 20\.000000000"):
        buffer.lookup("map", "base", s(20) - 1)


def test_the_last_of_two_transforms_of_one_stamp_counts():
    buffer = TransformBuffer()
    for x in (1, 2, 3):
        insert(buffer, "map", "base", 5, x=x)
    assert x_of(buffer.lookup("map", "base", s(5))) == 3.0
    with pytest.raises(ExtrapolationFuture, match="1 samples"):
        buffer.lookup("map", "base", s(5) + 1)


def test_a_frame_may_change_its_parent():
    buffer = TransformBuffer()
    for stamp in (1, 2):
        insert(buffer, "map", "cup", stamp, x=stamp)
    insert(buffer, "map", "hand", 0, x=10, static=True)
    for stamp in (3, 4):
        insert(buffer, "hand", "cup", stamp, x=stamp)
    at = {stamp: x_of(buffer.lookup("map", "cup", s(stamp))) for stamp in (1.5, 2.9, 3, 3.5)}
    assert at == {1.5: 1.5, 2.9: 2.0, 3: 13.0, 3.5: 13.5}  # between 2 and 3 the old parent holds, as in tf2
    insert(buffer, "map", "cup", 0, x=7, static=True)
    assert x_of(buffer.lookup("map", "cup", s(3.5))) == 7.0


def test_leading_slashes_of_ros_1_are_dropped():
    buffer = TransformBuffer()
    insert(buffer, "/map", "/base", 1, x=1)
    assert x_of(buffer.lookup("map", "base", s(1))) == 1.0


# ---- gaps

def test_nothing_is_interpolated_across_a_gap_of_more_than_a_second():
    buffer = TransformBuffer()
    for stamp in (1, 2, 3.001, 9):
        insert(buffer, "map", "base", stamp, x=stamp)
    assert [x_of(buffer.lookup("map", "base", s(stamp))) for stamp in (1.5, 2, 3.001, 9)] == [1.5, 2, 3.001, 9]
    for stamp, before, after in ((2.5, r"2\.0", r"3\.0010"), (8.9, r"3\.0010", r"9\.0")):
        with pytest.raises(TransformGap, match=rf"are at times {before}\d* and {after}\d*, farther apart than 1 s"):
            buffer.lookup("map", "base", s(stamp))


def test_a_parent_does_not_hold_across_a_gap_either():
    buffer = TransformBuffer()
    insert(buffer, "map", "cup", 1)
    insert(buffer, "map", "hand", 0, static=True)
    insert(buffer, "hand", "cup", 4)
    with pytest.raises(TransformGap):
        buffer.lookup("map", "cup", s(2))


def test_a_request_in_a_gap_waits_for_the_sample_that_fills_it():
    buffer, filled, empty = TransformBuffer(), Answers(), Answers()
    for stamp in (1, 9):
        insert(buffer, "map", "base", stamp, x=stamp)
    buffer.request("map", "base", s(4.5), s(12), filled)
    buffer.request("map", "base", s(5.5), s(12), empty)
    insert(buffer, "map", "base", 4, x=4)
    assert filled == []
    insert(buffer, "map", "base", 5, x=5)
    assert [x_of(pose) for pose in filled] == [4.5]
    buffer.expire(s(12))
    assert [type(error) for error in empty] == [TransformGap] and "5.0" in str(empty[0]) and "9.0" in str(empty[0])


def test_a_transform_of_before_a_reset_bends_no_pose():
    """One stray message is stamped 5 s ahead; the others go on at 20 Hz. Every stamp gets the true pose, at once."""
    buffer, stray = TransformBuffer(), 106.02
    insert(buffer, "map", "base", stray, x=-1000)
    stamps = np.arange(101, 108, 0.05).tolist()
    answers = {stamp: Answers() for stamp in stamps}
    for stamp in stamps:
        insert(buffer, "map", "base", stamp, x=stamp)
        buffer.request("map", "base", s(stamp + 0.025), s(200), answers[stamp])
    for stamp in stamps[:-1]:
        assert [x_of(pose) for pose in answers[stamp]] == [pytest.approx(stamp + 0.025)]
    assert answers[stamps[-1]] == []


# ---- every way to fail

def two_trees() -> TransformBuffer:
    buffer = TransformBuffer()
    for stamp in (10, 11):
        insert(buffer, "map", "odom", stamp)
        insert(buffer, "base", "camera", stamp)
    return buffer


@pytest.mark.parametrize("target, source, stamp, error, message", [
    ("map", "gripper", 10.5, UnknownFrame, r"'gripper' is not known: .*base, camera, map, odom"),
    ("moon", "moon", 10.5, UnknownFrame, r"'moon' is not known"),
    ("map", "camera", 10.5, NotConnected, r"from 'camera' to 'map': .*trees, with the roots 'base' and 'map'"),
    ("map", "odom", 11.5, ExtrapolationFuture,
     r"from 'odom' to 'map': .*map -> odom was requested at time 11\.5\d* but the latest data is at time 11\.0\d* "
     r"\(available: 10\.0\d* to 11\.0\d*, 2 samples\)"),
    ("odom", "map", 9.25, ExtrapolationPast, r"at time 9\.250000000 but the earliest data is at time 10\.000000000"),
])
def test_a_failed_lookup_says_what_is_missing(target, source, stamp, error, message):
    with pytest.raises(error, match=message):
        two_trees().lookup(target, source, s(stamp))


def test_a_gap_above_the_common_ancestor_does_no_harm():
    buffer = TransformBuffer()
    insert(buffer, "map", "base", 1)
    insert(buffer, "base", "left", 0, x=1, static=True)
    insert(buffer, "base", "right", 0, x=3, static=True)
    assert x_of(buffer.lookup("left", "right", s(500))) == 2.0


@pytest.mark.parametrize("parent, child, translation, xyzw, message", [
    ("map", "base", (np.nan, 0, 0), (0, 0, 0, 1), "map -> base was refused: a translation is three finite numbers"),
    ("map", "base", (np.inf, 0, 0), (0, 0, 0, 1), "three finite numbers"),
    ("map", "base", (0, 0, 0), (0, 0, np.nan, 1), "length"),
    ("map", "base", (0, 0, 0), (0, 0, 0, 0), "of length 0"),
    ("map", "base", (0, 0, 0), (0, 0, 0, 1.01), "of length 1.01"),
    ("base", "base", (0, 0, 0), (0, 0, 0, 1), "'base' is given as its own parent"),
    ("", "base", (0, 0, 0), (0, 0, 0, 1), "names its two frames"),
    ("map", "", (0, 0, 0), (0, 0, 0, 1), "names its two frames"),
])
def test_invalid_transforms_are_refused(parent, child, translation, xyzw, message):
    buffer = TransformBuffer()
    with pytest.raises(InvalidTransform, match=message):
        buffer.insert(parent, child, s(1), translation, xyzw)
    with pytest.raises(TransformError):
        buffer.lookup("map", "base", s(1))


def test_quaternions_are_normalised_within_a_thousandth():
    buffer = TransformBuffer()
    buffer.insert("map", "base", s(1), (0, 0, 0), (0, 0, 0, 1.0009))
    assert np.linalg.norm(buffer.lookup("map", "base", s(1)).quaternion) == pytest.approx(1, abs=1e-12)


def test_a_lookup_names_the_refusal_when_that_is_why_the_data_is_missing():
    buffer = TransformBuffer()
    for stamp in (1, 2):
        insert(buffer, "map", "base", stamp)
    with pytest.raises(InvalidTransform):
        insert(buffer, "map", "base", 3, x=np.nan)
    with pytest.raises(InvalidTransform, match="from 'base' to 'map'.*three finite numbers"):
        buffer.lookup("map", "base", s(2.5))
    assert x_of(buffer.lookup("map", "base", s(1.5))) == 0.0
    insert(buffer, "map", "base", 3)
    assert x_of(buffer.lookup("map", "base", s(2.5))) == 0.0
    with pytest.raises(ExtrapolationFuture):
        buffer.lookup("map", "base", s(3.5))


def test_a_loop_is_an_error_and_ends_with_the_samples_that_made_it():
    buffer = TransformBuffer()
    insert(buffer, "map", "odom", 1)
    for stamp in (1, 2, 3, 4):
        insert(buffer, "odom", "base", stamp)
    insert(buffer, "base", "odom", 2)
    insert(buffer, "map", "odom", 3, x=1)
    insert(buffer, "map", "odom", 4, x=1)
    with pytest.raises(TransformLoop, match="loop: base, odom, base"):
        buffer.lookup("map", "base", s(2.5))
    assert x_of(buffer.lookup("map", "base", s(3.5))) == 1.0


def test_outdated_transforms_are_refused_until_it_is_clear_that_time_went_back():
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", 0, x=5, static=True)
    for stamp in (100, 101):
        insert(buffer, "map", "base", stamp)
    for _ in range(9):
        with pytest.raises(OutdatedTransform, match=r"time 1\.0\d* is more than 10 s older than the latest, at 101\.0"):
            insert(buffer, "map", "base", 1)
    insert(buffer, "map", "base", 102)  # a stray publisher: the history stands
    for _ in range(9):
        with pytest.raises(OutdatedTransform):
            insert(buffer, "map", "base", 2)
    insert(buffer, "map", "base", 3, x=7)  # the tenth in a row: a new history
    assert x_of(buffer.lookup("map", "camera", None)) == 12.0
    assert buffer.latest_common_stamp("map", "camera") == s(3)


def test_clear_keeps_only_static_transforms():
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", 0, x=5, static=True)
    insert(buffer, "map", "base", 100)
    buffer.clear()
    assert x_of(buffer.lookup("base", "camera", s(1))) == 5.0
    with pytest.raises(NotConnected):
        buffer.lookup("map", "base", s(100))
    insert(buffer, "map", "base", 1)  # older than before is fine now
    assert x_of(buffer.lookup("map", "camera", s(1))) == 5.0


# ---- requests

class Answers(list):
    """A callback that keeps what it was given."""

    def __call__(self, outcome):
        self.append(outcome)


def test_a_request_is_answered_by_the_insert_that_completes_it_and_once():
    buffer, answers = TransformBuffer(), Answers()
    buffer.request("map", "camera", s(2.5), s(10), answers)
    insert(buffer, "map", "base", 2, x=2)
    insert(buffer, "base", "camera", 0, static=True)
    assert answers == [] and buffer.next_deadline() == s(10)
    insert(buffer, "map", "base", 3, x=3)
    assert [x_of(pose) for pose in answers] == [2.5]
    insert(buffer, "map", "base", 4)
    buffer.expire(s(100))
    buffer.clear()
    assert len(answers) == 1 and buffer.next_deadline() is None


def test_a_request_is_answered_at_once_when_the_answer_is_known():
    buffer, known, past = TransformBuffer(), Answers(), Answers()
    for stamp in (1, 2):
        insert(buffer, "map", "base", stamp, x=stamp)
    buffer.request("map", "base", s(1.25), s(10), known)
    buffer.request("map", "base", s(0.5), s(10), past)
    assert [x_of(pose) for pose in known] == [1.25] and [type(error) for error in past] == [ExtrapolationPast]


def test_a_request_can_become_impossible():
    buffer, answers = TransformBuffer(), Answers()
    buffer.request("map", "base", s(1.25), s(10), answers)
    insert(buffer, "map", "base", 2)
    assert [type(error) for error in answers] == [ExtrapolationPast]


@pytest.mark.parametrize("prepare, error", [
    (lambda buffer: None, UnknownFrame),
    (lambda buffer: insert(buffer, "map", "base", 1), ExtrapolationFuture),
    (lambda buffer: (insert(buffer, "map", "odom", 1), insert(buffer, "world", "base", 2)), NotConnected),
    (lambda buffer: (insert(buffer, "camera", "base", 2), insert(buffer, "base", "camera", 2),
                     insert(buffer, "map", "odom", 2)), TransformLoop),
])
def test_at_the_deadline_a_request_learns_the_reason(prepare, error):
    buffer, answers = TransformBuffer(), Answers()
    prepare(buffer)
    buffer.request("map", "base", s(2), s(3), answers)
    buffer.expire(s(3) - 1)
    assert answers == []
    buffer.expire(s(3))
    assert [type(outcome) for outcome in answers] == [error]


def test_clear_ends_all_requests():
    buffer, answers = TransformBuffer(), Answers()
    for stamp in (1, 2):
        buffer.request("map", "base", s(stamp), s(10), answers)
    buffer.clear()
    assert [type(error) for error in answers] == [TimeJump] * 2
    assert "time 1.000000000" in str(answers[0])


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_a_request_is_answered_by_the_first_sample_with_which_lookup_can(seed):
    """Frames that change parents, gaps, loops, samples in any order: nothing waits for what is known already."""
    rng = np.random.default_rng(seed)
    buffer, waiting = TransformBuffer(), []
    frames = ["a", "b", "c", "d"]
    for _ in range(60):
        stamp = s(100 + rng.integers(1, 40) / 8)
        if rng.random() < 0.3:
            target, source = rng.choice(frames, 2)
            waiting.append((target, source, stamp, Answers()))
            buffer.request(*waiting[-1][:3], s(1000), waiting[-1][3])
        else:
            parent, child = rng.choice(frames, 2, replace=False)
            buffer.insert(parent, child, stamp, rng.normal(size=3), (0, 0, 0, 1), static=rng.random() < 0.1)
        for item in [item for item in waiting if not item[3]]:
            assert isinstance(lookup_error(buffer, *item[:3]), TransformError), "known, but not answered"


def test_a_sample_tries_only_the_requests_that_it_can_answer():
    buffer, answers, tried = TransformBuffer(), Answers(), []
    insert(buffer, "map", "odom", 1)
    insert(buffer, "odom", "base", 1)
    for i in range(20):
        buffer.request("map", "base", s(2 + i / 10), s(10), answers)
    lookup = buffer.lookup
    buffer.lookup = lambda *request: tried.append(request[2]) or lookup(*request)
    insert(buffer, "odom", "base", 1.5)
    insert(buffer, "map", "odom", 2)
    insert(buffer, "base", "wheel", 2)
    tried.clear()  # the ones at 2 s were right to try: one of their two links was new
    insert(buffer, "odom", "base", 1.7)
    insert(buffer, "map", "odom", 2.05)
    insert(buffer, "base", "wheel", 2.5)
    assert tried == [] == answers
    insert(buffer, "odom", "base", 2.05)
    assert tried == [s(2)] and len(answers) == 1


def lookup_error(buffer, *request):
    """The error of a lookup, unless it is final; None when it succeeds."""
    try:
        buffer.lookup(*request)
    except TransformError as error:
        return None if error.final else error


def test_requests_are_answered_in_their_order_and_may_ask_again():
    buffer, order = TransformBuffer(), []
    insert(buffer, "map", "base", 0.5)
    insert(buffer, "map", "base", 1.5, x=1.5)

    def again(outcome):
        order.append(x_of(outcome))
        buffer.request("map", "base", s(1), s(9), lambda outcome: order.append("again"))

    buffer.request("map", "base", s(2), s(9), again)
    buffer.request("map", "base", s(2.5), s(9), lambda outcome: order.append(x_of(outcome)))
    insert(buffer, "map", "base", 2.5, x=2.5)
    assert order == [2.0, "again", 2.5]


def test_inserts_and_requests_from_many_threads():
    """Every request is answered exactly once and right, whichever thread's insert completes it."""
    buffer, answers, lock = TransformBuffer(), {}, threading.Lock()
    insert(buffer, "map", "base", 0.001, x=0.001)

    def ask(stamps):
        for stamp in stamps:
            def answered(outcome, stamp=stamp):
                with lock:
                    answers.setdefault(stamp, []).append(outcome)
            buffer.request("map", "base", stamp, s(100), answered)

    def publish(stamps):
        for stamp in stamps:
            insert(buffer, "map", "base", stamp, x=stamp)

    stamps = [s(0.005 * i + 0.0025) for i in range(1, 241)]
    times = [0.005 * i for i in range(1, 260)]
    threads = [threading.Thread(target=ask, args=(stamps[i::3],)) for i in range(3)]
    threads += [threading.Thread(target=publish, args=(times[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == stamps
    assert all(len(outcomes) == 1 for outcomes in answers.values())
    for stamp, (pose,) in answers.items():
        assert x_of(pose) == pytest.approx(stamp / SECOND, abs=1e-9)
