"""Test processes that run at the same time do not meet in a ROS domain."""

import subprocess
import sys

import conftest

CODE = """
import os, sys
from unittest import mock
with mock.patch("os.getpid", lambda: int(sys.argv[1])):  # as if the process ids were the same, or 100 apart
    import conftest
print(conftest.DOMAIN, os.environ["ROS_DOMAIN_ID"], flush=True)
sys.stdin.read()
"""


def start(pid):
    return subprocess.Popen([sys.executable, "-c", CODE, str(pid)], cwd=conftest.HERE, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def end(process):
    process.communicate(timeout=60)


def test_processes_at_the_same_time_have_different_domains_from_1_to_100():
    others = [start(pid) for pid in (conftest.DOMAIN - 1, 1099, 99, 199)]
    try:
        told = [process.stdout.readline().split() for process in others]
    finally:
        for process in others:
            end(process)
    domains = [int(domain) for domain, _ in told]
    assert [domain for domain, inherited in told if domain != inherited] == []
    assert len({conftest.DOMAIN, *domains}) == 5 and set(domains) <= set(range(1, 101))
