import numpy as np
import pytest

from stream_em.errors import InputError
from stream_em.streams.records import Block, as_records, first_unusable


def test_records_are_float64_c_ordered_and_writeable():
    read_only = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(3, 2))
    read_only.flags.writeable = False
    records = as_records(read_only)
    assert records.dtype == np.float64
    assert records.flags.c_contiguous
    assert records.flags.writeable
    np.testing.assert_array_equal(records, [[0, 1], [2, 3], [4, 5]])


def test_a_vector_is_records_of_one_feature():
    assert as_records([1, 2, 3]).shape == (3, 1)


def test_a_block_gives_its_values():
    values = np.ones((2, 3))
    assert as_records(Block(values)) is values
    assert len(Block(values)) == 2


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ([[1.0, np.inf]], ["record 0, column 1", "infinite"]),
        ([[1.0], [-2e100]], ["record 1, column 0", "1e+100"]),
        ([["a"]], ["numbers"]),
        ([[1], [2, 3]], ["rectangular"]),
        (np.array([[1j]]), ["complex"]),
        ([[10**400]], ["numbers"]),
        (np.zeros((2, 2, 2)), ["two axes"]),
        (np.zeros((2, 0)), ["at least one feature"]),
    ],
)
def test_what_is_not_a_record_is_refused(values, parts):
    with pytest.raises(InputError) as caught:
        as_records(values)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_another_width_is_refused():
    with pytest.raises(InputError, match="must have 3 features, not 2"):
        as_records([[1, 2]], n_features=3)


def test_missing_values_are_usable():
    assert first_unusable(np.full((3, 2), np.nan)) is None
    assert first_unusable(np.array([[np.nan, 1e100], [-1e100, 0.0]])) is None
    assert first_unusable(np.array([[np.nan, 0.0], [0.0, -np.inf]])) == (1, 1)
    assert first_unusable(np.empty((0, 2))) is None
