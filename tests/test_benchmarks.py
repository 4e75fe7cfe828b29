"""Every benchmark runs at toy sizes and gives rows that can be printed."""

import importlib
import math

import pytest
from threadpoolctl import threadpool_limits

from benchmarks import THEMES
from benchmarks.machine import machine
from benchmarks.rows import Row, faster
from benchmarks.table import print_markdown, print_table


@pytest.mark.parametrize("theme", THEMES)
def test_every_theme_gives_rows(theme, capsys):
    with threadpool_limits(1):
        rows = list(importlib.import_module(f"benchmarks.{theme}").run(quick=True))
        described = machine(quick=True)
    assert rows
    for row in rows:
        assert row.name
        assert math.isfinite(row.ours)
        assert row.peer is None or row.peer > 0
        assert row.shown()
    print_markdown(described, rows)
    assert capsys.readouterr().out.count("\n") >= len(rows) + 2
    print_table(described, rows)
    assert rows[0].name in capsys.readouterr().out


def test_a_ratio_is_of_medians_and_met_if_large_enough():
    row = faster("name", ([1.0, 2.0, 30.0], [10.0, 20.0, 30.0]), ">= 8")
    assert (row.ours, row.peer, row.ratio, row.met) == (2000.0, 20000.0, 10.0, True)
    assert row._replace(goal=">= 11").met is False
    assert row._replace(goal="").met is None


def test_a_goal_without_a_ratio_is_about_the_time_itself():
    assert Row("name", 0.3, None, None, "<= 0.4", "s", "").met is True
    assert Row("name", 0.5, None, None, "<= 0.4", "s", "").met is False
