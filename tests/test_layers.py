"""Imports point downward only, and the compiler is the business of one file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "stream_em"
FLOORS = ["version", "errors", "arrays", "kernels", "stepsize", "emissions", "em", "models", "streams", "learning"]
FLOORS += [
    "unmixing",
    "sinks",
    "unmixing",
    "config",
    "configcheck",
    "configfile",
    "configschema",
    "estimators",
    "runs",
    "pipeline",
    "service",
    "report",
    "demo",
    "cli",
]
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Return the full names of all modules that a file imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    return names


def floor_of(name):
    return FLOORS.index(name.split(".")[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    home = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if home == "__init__":
        return
    for name in imported(path):
        if name.startswith("stream_em."):
            assert floor_of(name) <= FLOORS.index(home), f"{path} imports {name} from above"
        assert name != "stream_em" or home == "cli", f"{path} imports the roof"


def test_every_part_of_the_package_has_a_floor():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    assert parts == set(FLOORS)


def test_numba_is_imported_in_one_file():
    importers = [path for path in FILES if any(name.split(".")[0] == "numba" for name in imported(path))]
    assert importers == [PACKAGE / "kernels" / "dispatch.py"]


def test_numerics_know_nothing_of_files():
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in ("kernels", "emissions", "em.py"):
            outside = {"os", "pathlib", "io", "pyarrow", "json"} & {name.split(".")[0] for name in imported(path)}
            assert not outside or path.name == "dispatch.py", f"{path} imports {outside}"
