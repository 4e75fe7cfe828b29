"""kill -9 at any moment: parameters, counts and outputs are bitwise those of a run that was never killed."""

import random
import sqlite3

import pytest
from crash.harness import contents, killed, undisturbed, write_config, write_data


def check_kills(folder, n_records, n_kills):
    data, config = folder / "data.csv", folder / "c.toml"
    write_data(data, n_records)
    write_config(config, data, n_records)
    undisturbed(config, folder / "warm")
    seconds = undisturbed(config, folder / "whole")
    expected = contents(folder / "whole")
    assert any(name.startswith("posteriors/part-") for name in expected)
    assert expected["dead-letter.jsonl"].count(b"\n") == n_records // 1000
    assert expected["text events"].count(b'"replaced"') >= 2
    rng, kills, run = random.Random(0), 0, 0
    while kills < n_kills:
        run += 1
        broken = folder / f"killed-{run}"
        while killed(config, broken, seconds, rng):
            kills += 1
            # Near the end of the count every run may finish.
            seconds_left = seconds if kills < n_kills else 1e9
            if seconds_left > 1e8:
                break
        undisturbed(config, broken)
        found = contents(broken)
        assert sorted(found) == sorted(expected)
        for name, content in expected.items():
            assert found[name] == content, f"{name} differs after {kills} kills"
        with sqlite3.connect(broken / "journal.db") as journal:
            (doubled,) = journal.execute(
                "SELECT count(*) FROM (SELECT records FROM snapshots GROUP BY records HAVING count(*) > 1)"
            ).fetchone()
        assert doubled == 0
    assert kills >= n_kills


def test_a_dozen_kills_change_nothing(tmp_path):
    check_kills(tmp_path, 300_000, 12)


@pytest.mark.slow
def test_five_hundred_kills_change_nothing(tmp_path):
    check_kills(tmp_path, 1_000_000, 500)
