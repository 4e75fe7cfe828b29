import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stream_em import cli, demo


def test_roc_auc_equals_scikit_learns():
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=200), rng.integers(0, 4, size=200).astype(float), np.zeros(200)):
        labels = rng.random(200) < 0.2
        assert demo.roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_roc_auc_without_two_classes_is_nan():
    assert np.isnan(demo.roc_auc(np.arange(3.0), np.zeros(3)))
    assert np.isnan(demo.roc_auc(np.arange(0.0), np.zeros(0)))


def test_the_data_is_found_without_importing_river():
    imported = "river" in sys.modules
    assert demo.shuttle_path().is_file()
    assert ("river" in sys.modules) == imported


def test_demo_tells_what_it_learned_and_how_well(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["demo"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert "\x1b" not in out
    assert "49,097 records of 9 sensors" in out
    assert "540 records" in out
    assert 0.95 < float(out.partition("ROC AUC ")[2].split()[0]) < 1.0
    command = next(line for line in out.splitlines() if " fit " in line)
    assert str(demo.shuttle_path()) in command
    texts = [line for line in out.splitlines() if str(demo.shuttle_path()) not in line]
    assert max(map(len, texts)) <= 100
