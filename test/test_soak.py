"""The soak that is run by hand for half an hour, for some seconds."""

from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")


def test_a_short_soak_loses_nothing_without_a_reason(tmp_path):
    script = Path(__file__).with_name("soak.py")
    result = subprocess.run([sys.executable, str(script), "--minutes", "0.15", "--seed", "3", "--model", "anchors"],
                            capture_output=True, text=True, timeout=240)
    assert result.returncode == 0 and "failures: []" in result.stdout, result.stdout + result.stderr
