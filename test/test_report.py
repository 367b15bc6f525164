"""`worldfm report`: what a page says of a world, a bag with faults and an evaluation; it needs nothing else."""

from base64 import b64decode
from html.parser import HTMLParser
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scenes import room_frames, room_world, write_rgbd_folder
from test_clip_sources import bag_messages, write_bag

from worldfm_ros.report.bag import bag_section
from worldfm_ros.report.report import report
from worldfm_ros.report.scores import scores_section
from worldfm_ros.report.world import label_counts, plan_of, world_section
from worldfm_ros.world.storage import write_world


def scores(folder, frames, psnr):
    """A file as `worldfm eval` writes it, of views of a recording, each with a PSNR."""
    def side(value):
        region = {"psnr": value, "ssim": 0.5}
        return {"all": region, "seen": region, "disoccluded": {"psnr": None, "ssim": None}, "sharpness_ratio": 1.0,
                "warp_psnr": None, "confidence_rank": None}

    rows = [{"group": "g", "frame": k, "uncovered": 0.1, "model": side(value), "baseline": side(20.0),
             "inpainted": side(10.0)} for k, value in zip(frames, psnr, strict=True)]
    figures = {"views": len(rows), "uncovered": 0.1, "model": side(float(np.mean(psnr))), "baseline": side(20.0),
               "inpainted": side(10.0), "per_view": rows, "settings": {"source": str(folder), "model": "m"}}
    path = folder.parent / "scores.json"
    path.write_text(json.dumps(figures))
    return path


class Page(HTMLParser):
    """Balanced tags, and what the page would load."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "link", "img"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href")]


def failed(section):
    return {check.what: check.found for check in section.checks if not check.holds}


def test_a_page_of_all_three_needs_nothing_else(tmp_path):
    write_world(room_world(), tmp_path / "room")
    scan = write_rgbd_folder(tmp_path / "scan", room_frames())
    write_bag(tmp_path / "bag", bag_messages())
    file = scores(scan, range(12), np.linspace(15, 26, 12))
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "report", str(file), str(tmp_path / "bag"),
               str(tmp_path / "room"), "--out", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "page.html" in done.stdout
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.stack == [] and all(each.startswith(("data:", "#")) for each in page.loads)
    assert text.index("World room") < text.index("Evaluation scores.json") and "Bag bag" in text
    assert text.count("<svg") >= 7 and text.count("data:image/jpeg") > 30
    assert report([tmp_path / "room"]) == report([tmp_path / "room"])  # the same, byte by byte


def test_a_plan_is_what_lies_below_the_cameras():
    world = room_world()
    plan = plan_of(world)
    west, east, south, north = plan.extent
    assert (west, east) == pytest.approx((-2, 2), abs=0.1) and (south, north) == pytest.approx((-1.5, 1.5), abs=0.1)
    assert plan.picture[0, :, 3].mean() > 230 and plan.label_names == world.label_names  # a wall
    counts = label_counts(world)
    assert counts.keys() == {"x wall", "y wall", "floor"} and sum(counts.values()) == len(world.anchors)
    assert not failed(world_section(world, "room"))


def test_a_good_bag_passes_and_a_bad_one_is_told_where_it_is_bad(tmp_path):
    write_bag(tmp_path / "good", bag_messages())
    good = bag_section(tmp_path / "good", None)
    assert len(good.checks) >= 4
    assert not any(what.startswith("TF of /camera/color") for what in failed(good)), failed(good)
    write_bag(tmp_path / "late", (message for message in bag_messages(poses_of=range(6))))
    assert re.search(r"of .* have a pose.*extrapolation", next(
        found for what, found in failed(bag_section(tmp_path / "late", None)).items() if what.startswith("TF")))

    def with_a_hole():
        for k, message in enumerate(bag_messages()):
            if not (message[0].endswith(("color/image_raw", "image_raw")) and 20 < k < 30):
                yield message

    write_bag(tmp_path / "hole", with_a_hole())
    assert any("holes" in found and not found.startswith("0 not after the one before, 0 holes")
               for what, found in failed(bag_section(tmp_path / "hole", None)).items() if what.startswith("stamps"))


def test_the_worst_views_come_with_their_pictures(tmp_path):
    frames = room_frames()
    scan = write_rgbd_folder(tmp_path / "scan", frames)
    html = scores_section(scores(scan, range(12), [30.0] * 11 + [12.0]), None).html()
    first = re.search(r"<tr><td>(\d+)</td><td>12.000</td>", html)
    assert first and first[1] == "11" and "frame 11: 12.0 dB" in html
    picture = re.search(r'alt="frame 11: [^"]*" src="data:image/jpeg;base64,([^"]+)"', html)[1]
    shown = cv2.imdecode(np.frombuffer(b64decode(picture), np.uint8), 1)[..., ::-1]
    truth = cv2.resize(frames[11].rgb, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - truth).mean() < 4
    gone = scores_section(scores(tmp_path / "gone", range(3), [20.0] * 3), None).html()
    assert "does not exist" in gone


@pytest.mark.parametrize("words, said", [
    (["--out", "p.html"], "name a bag, a world folder or a JSON"),
    (["nothing", "--out", "p.html"], "nothing does not exist"),
    (["file.txt", "--out", "p.html"], "nothing to report on"),
    (["bad.json", "--out", "p.html"], "not from `worldfm eval`"),
    (["torn.json", "--out", "p.html"], "is no JSON"),
    (["bad.json", "--out", "page"], "ends in .html"),
    (["bad.json", "--out", "no/page.html"], "there is no folder no"),
])
def test_bad_input_is_one_line_and_no_page(tmp_path, monkeypatch, capsys, words, said):
    from worldfm_ros.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "torn.json").write_text('{"per')
    monkeypatch.setattr(sys, "argv", ["worldfm", "report", *words])
    assert main() != 0
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not list(tmp_path.glob("**/*.html"))
