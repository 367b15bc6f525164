"""What became of the frames: a camera's accounts always balance, and a recorder's ledger reads them rightly."""

from hypothesis import given
from hypothesis import strategies as st

from worldfm_ros.nodes.accounts import FrameAccounts, Ledger, nanoseconds, summarise
from worldfm_ros.nodes.tf_history import SECOND, seconds

TOPICS = ["/eye/image_raw", "/eye/camera_info"]
ENDS = st.sampled_from(["published", "overruns", "dropped.gap", "dropped.generate_failed", "outside", "unfinished"])


def play(accounts, ends, stamp=0):
    """Let frames end in the given ways; the stamps of the published ones."""
    stamps = []
    for end in ends:
        stamp += SECOND
        accounts.tick()
        if end == "published":
            accounts.published(stamp)
            stamps.append(stamp)
        elif end == "outside":
            accounts.outside()
        elif end != "unfinished":
            accounts.lost(end)
    return stamps


@given(st.lists(ENDS))
def test_asked_is_published_and_lost_and_unfinished(ends):
    accounts = FrameAccounts(TOPICS)
    play(accounts, ends)
    counts = accounts.counts
    assert counts["asked"] == len(ends) - ends.count("outside")
    for end in ("published", "overruns", "dropped.gap", "unfinished"):
        assert counts[end] == ends.count(end)
    values = accounts.values()
    lost = sum(int(text) for name, text in values.items() if name == "overruns" or name.startswith("dropped."))
    assert int(values["asked"]) == int(values["published"]) + lost + int(values["unfinished"])


@given(st.integers(0, 2**62))
def test_stamps_survive_as_text(stamp):
    assert nanoseconds(seconds(stamp)) == stamp


@given(st.lists(st.lists(ENDS, max_size=12), min_size=1, max_size=4), st.data())
def test_a_ledger_counts_what_the_camera_did_while_it_was_listened_to(runs, data):
    """Reports come late or twice; the camera is killed between the runs, and its unfinished frames die with it."""
    ledger, expected, stamps = Ledger(TOPICS), [], []
    for number, ends in enumerate(runs):
        accounts = FrameAccounts(TOPICS)
        early = accounts.values()
        ledger.report("/eye", early)
        stamps += play(accounts, ends, stamp=100 * number * SECOND)
        for values in data.draw(st.permutations([early, accounts.values(), accounts.values()])):
            ledger.report("/eye", values)
        ledger.report("/eye", accounts.values())
        last = number == len(runs) - 1
        expected += [end for end in ends if end != "outside" and (last or end != "unfinished")]
    for stamp in stamps:
        ledger.recorded("/eye/image_raw", stamp)
    counts = ledger.counts("/eye")
    assert counts["asked"] == len(expected)
    assert all(counts[end] == expected.count(end) for end in ("published", "overruns", "dropped.gap", "unfinished"))
    due = len(expected) - expected.count("unfinished")
    assert bool(ledger.shortfall()) == (due > 0), "of camera_info nothing is there, of image_raw all that was published"


def test_ticks_that_turn_out_to_be_after_the_drive_are_taken_back():
    """The last report has fewer asked frames than the one before it, which comes once more and does not count."""
    accounts, ledger = FrameAccounts(TOPICS), Ledger(TOPICS[:1])
    ledger.report("/eye", accounts.values())
    for stamp in play(accounts, ["published"] * 10 + ["unfinished"] * 5):
        ledger.recorded(TOPICS[0], stamp)
    late = accounts.values()
    for _ in range(5):
        accounts.outside()
    for values in (late, accounts.values(), late):
        ledger.report("/eye", values)
    assert ledger.lines() == [f"{TOPICS[0]}: 10 asked, 10 published, 0 lost, 10 in the bag"]


def test_what_was_before_the_first_report_does_not_count():
    accounts, ledger = FrameAccounts(TOPICS), Ledger(TOPICS[:1])
    before = play(accounts, ["published"] * 3 + ["overruns"] * 50)
    ledger.report("/eye", accounts.values())
    after = play(accounts, ["published"] * 5, stamp=1000 * SECOND)
    ledger.report("/eye", accounts.values())
    for stamp in before + after:
        ledger.recorded(TOPICS[0], stamp)
    assert ledger.lines() == [f"{TOPICS[0]}: 5 asked, 5 published, 0 lost, 5 in the bag"]
    assert ledger.shortfall() == ""


def test_a_shortfall_says_how_many_and_why():
    accounts, ledger = FrameAccounts(TOPICS), Ledger(TOPICS[:1])
    ledger.report("/eye", accounts.values())
    stamps = play(accounts, ["published"] * 90 + ["overruns"] * 7 + ["dropped.gap"] * 3 + ["unfinished"])
    for stamp in stamps[:-2]:
        ledger.recorded(TOPICS[0], stamp)
    ledger.report("/eye", accounts.values())
    assert ledger.shortfall() == ("88 of 100 asked images of /eye/image_raw are in the bag: 3 gap, 7 overruns, "
                                  "2 lost on the way to the bag")


def test_99_of_100_are_enough_and_none_of_none_too():
    accounts, ledger = FrameAccounts(TOPICS), Ledger(TOPICS[:1])
    ledger.report("/eye", accounts.values())
    assert ledger.shortfall() == ""
    for stamp in play(accounts, ["published"] * 99 + ["overruns"]):
        ledger.recorded(TOPICS[0], stamp)
    ledger.report("/eye", accounts.values())
    assert ledger.shortfall() == ""


def test_a_recording_without_a_single_image_is_short_of_all():
    """1 image of 150, or none at all: the topic was asked for."""
    accounts, ledger = FrameAccounts(TOPICS), Ledger(TOPICS[:1])
    ledger.report("/eye", accounts.values())
    play(accounts, ["overruns"] * 150)
    ledger.report("/eye", accounts.values())
    assert ledger.shortfall().startswith("0 of 150 asked images of /eye/image_raw")


def test_what_is_no_account_is_ignored():
    ledger = Ledger(TOPICS)
    ledger.report("/motor", {"temperature": "40"})
    assert ledger.lines() == [] and ledger.unclosed() == []


def test_the_summary_is_readable():
    counts = {"asked": 600, "published": 74, "overruns": 525, "unfinished": 1}
    assert summarise(counts) == ("600 asked, 74 published, 525 lost (525 overruns), 1 unfinished when it was stopped")
