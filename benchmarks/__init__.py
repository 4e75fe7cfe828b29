"""Us against the peers, in one process, on the same arrays, one thread each: `python -m benchmarks`.

A theme is a file with a generator `run(quick)` of rows; `rows` says what a row is and how times are compared, `table`
prints rows, `machine` says how fast the core is, `samples` makes the data.
"""

THEMES = (
    "mixture",
    "fit",
    "starts",
    "drift",
    "outliers",
    "tracking",
    "chain",
    "unmixing",
    "densities",
    "eeg",
    "convolutive",
    "factorization",
    "sinusoids",
    "files",
    "pipeline",
    "kafka",
    "memory",
    "latency",
    "river",
    "sklearn",
    "startup",
)
