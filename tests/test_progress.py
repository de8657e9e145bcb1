"""Progress is a bar on a terminal, and elsewhere a line now and then."""

import logging
import sys

import pytest

from tfadv import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_short_leaves_no_trace(clock, caplog, capsys):
    caplog.set_level(logging.INFO, "tfadv")
    for _ in progress.track(range(5), "reading"):
        clock[0] += 1
    assert not caplog.messages
    assert capsys.readouterr() == ("", "")


def test_what_is_long_says_how_far_it_is(clock, caplog):
    caplog.set_level(logging.INFO, "tfadv")
    for _ in progress.track(range(10), "reading", unit="files"):
        clock[0] += 20
    assert caplog.messages == [
        "reading: 2 of 10 files, 0.05 a second, 3 min left",
        "reading: 4 of 10 files, 0.05 a second, 2 min left",
        "reading: 6 of 10 files, 0.05 a second, 1 min left",
        "reading: 8 of 10 files, 0.05 a second, 1 min left",
        "reading: 10 of 10 files, 0.05 a second, 0 min left",
    ]


def test_an_unknown_total_and_silence(clock, caplog):
    caplog.set_level(logging.INFO, "tfadv")
    for _ in progress.track((x for x in "abc"), "reading"):
        clock[0] += 40
    assert caplog.messages[0] == "reading: 1 batches, 0.025 a second"
    caplog.clear()
    for _ in progress.track(range(3), "reading", verbose=False):
        clock[0] += 40
    assert not caplog.messages


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress("reading", total=2, unit="texts") as shown:
        shown.update(2)
    assert "reading: 100%" in capsys.readouterr().err
