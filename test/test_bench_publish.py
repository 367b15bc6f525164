"""`worldfm bench publish`: two real processes; what it says was sent and received is what was."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from worldfm_ros.bench.publish import Case, measure_publish, publish_cases
from worldfm_ros.nodes.publish_bench import PublishCase
from worldfm_ros.nodes.qos import SAFE_BYTES, loss_to_expect


def test_a_case_is_measured_between_two_processes():
    row = measure_publish(Case(64, 48, "reliable", profile=False), frames=12, rate=60.0, profiles={})
    assert (row["sent"], row["received"], row["qos"], row["profile"]) == (12, 12, "reliable", False)
    assert 0 < row["publish_ms"] <= row["p95_ms"] and 0 < row["generating_ms"]
    assert row.keys() == {"width", "height", "publish_ms", "p95_ms", "generating_ms", "sent", "received", "qos",
                          "profile"}


def test_a_process_that_fails_is_an_error_that_says_why():
    with pytest.raises(RuntimeError, match="(?s)failed: .*parameter qos is one of reliable, sensor_data, latched"):
        measure_publish(Case(64, 48, "hopeful", profile=False), frames=1, rate=60.0, profiles={})


def test_the_cases_compare_what_the_warning_is_about():
    cases = publish_cases()
    assert {(case.qos, case.profile) for case in cases} == {
        (qos, profile) for qos in ("reliable", "sensor_data") for profile in (True, False)}
    assert PublishCase(**json.loads('{"width": 1, "height": 2, "qos": "reliable"}')).frames == 300
    assert "3038 KB" in loss_to_expect("sensor_data", 1920 * 1080 * 3 // 2, {})
    assert not loss_to_expect("reliable", 10**7, {}) and not loss_to_expect("sensor_data", SAFE_BYTES, {})
    assert not loss_to_expect("sensor_data", 10**7, {"FASTRTPS_DEFAULT_PROFILES_FILE": "x"})


def test_the_command_is_there():
    result = subprocess.run([sys.executable, "-m", "worldfm_ros.cli.main", "bench", "publish", "--help"],
                            capture_output=True, text=True)
    assert result.returncode == 0 and "best effort" in result.stdout
