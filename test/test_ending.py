"""How commands end: one line for what a user can mend, an admission and a traceback on request for the rest."""

from __future__ import annotations

import sqlite3
import sys

import pytest

from worldfm_ros.ending import DEBUG_VARIABLE, FAILED, INTERRUPTED, exit_code


def end(monkeypatch, capsys, error, *words):
    def command():
        raise error

    monkeypatch.setattr(sys, "argv", ["worldfm", *words])
    monkeypatch.setenv(DEBUG_VARIABLE, "")
    code = exit_code(command)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a\nb"), FileNotFoundError("gone"), sqlite3.DatabaseError("malformed"),
                                   RuntimeError("no model")])  # fmt: skip
def test_what_a_user_can_mend_is_one_line(monkeypatch, capsys, error):
    code, said = end(monkeypatch, capsys, error)
    assert code == FAILED and said == f"error: {' '.join(str(error).split())}\n"


@pytest.mark.parametrize("error", [AttributeError("x"), OverflowError("x"), AssertionError(), KeyError("k")])
def test_the_rest_is_said_to_be_our_fault(monkeypatch, capsys, error):
    code, said = end(monkeypatch, capsys, error)
    assert code == FAILED and len(said.splitlines()) == 1 and type(error).__name__ in said
    assert "fault of worldfm_ros" in said and "--debug" in said
    code, said = end(monkeypatch, capsys, error, "--debug")
    assert code == FAILED and "Traceback" in said and said.splitlines()[-1].startswith("error: ")
    assert sys.argv == ["worldfm"]


@pytest.mark.parametrize("error, help_", [
    (ImportError("cannot import name '_rclpy_pybind11' from 'rclpy'"), "PYTHONPATH"),
    (RuntimeError("cannot cache function 'draw': no locator available"), "NUMBA_CACHE_DIR"),
])  # fmt: skip
def test_foreign_errors_come_with_what_helps(monkeypatch, capsys, error, help_):
    code, said = end(monkeypatch, capsys, error)
    assert code == FAILED and help_ in said and len(said.splitlines()) == 1


def test_an_interruption_is_no_error(monkeypatch, capsys):
    assert end(monkeypatch, capsys, KeyboardInterrupt()) == (INTERRUPTED, "stopped\n")
