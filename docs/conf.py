"""How the documentation is built: `make docs`. Any warning is an error, and nothing is fetched."""

import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

from stream_em import __version__

project = "stream_em"
copyright = "the authors of stream_em, BSD-3-Clause"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_gallery.gen_gallery", "mathml", "tables"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_tables", "examples"]
suppress_warnings = ["config.cache"]  # the order of examples is a function

nitpicky = True
# Types of other packages, and names of types within this one that no page describes.
nitpick_ignore_regex = [
    ("py:.*", r"(?!stream_em\.).*"),
    ("py:.*", r"stream_em\.(arrays|kernels|learning|models|streams)\..*"),
]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
add_module_names = False

html_theme = "furo"
html_title = f"stream_em {release}"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

EXAMPLES = ["anomalies.py", "missing_values.py", "regimes.py", "unmixing.py", "kafka_topic.py"]
# The example that needs a broker runs where there is one; `make test` always has one, and runs it there.
BROKER = "KAFKA_BOOTSTRAP_SERVERS" in os.environ
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$" if BROKER else r"/(?!kafka_)\w+\.py$",
    "within_subsection_order": EXAMPLES.index,
    "run_stale_examples": True,
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "copyfile_regex": r"^$",
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "default_thumb_file": str(HERE / "online-em.svg"),
}


ARRAY = re.compile(r"ndarray\[\S*tuple\[\S*Any, \.\.\.\], \S*dtype\[[~.\w]+\]\]")


def plain_bars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let |x| in a docstring be a magnitude, not a reference."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else line.replace("|", "\\|") for line in lines]


def short_arrays(app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returned: str) -> Any:
    """Call an array of whatever numbers an ndarray; docstrings tell shapes."""
    return tuple(text and ARRAY.sub("ndarray", text) for text in (signature, returned))


def setup(app: Any) -> None:
    """Mend what autodoc makes of docstrings and signatures."""
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("autodoc-process-signature", short_arrays)
