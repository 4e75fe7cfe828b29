"""What all tests share."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

sys.path.insert(0, str(TESTS))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep what shares fixtures in one process: the tests of a file, and all that share a broker."""
    for item in items:
        group = "broker" if TESTS / "broker" in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def run(capfd):
    """Run a command in this process; return its exit code, standard output and standard error."""

    from stream_em import cli

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        return end.value.code, *capfd.readouterr()

    return run
