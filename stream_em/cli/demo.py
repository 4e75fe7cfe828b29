"""`stream-em demo`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Demo(StrEnum):
    """What can be shown."""

    ANOMALIES = "anomalies"
    UNMIX = "unmix"


def demo(
    what: Annotated[
        Demo,
        typer.Argument(help="anomalies: found in 49,097 real sensor records; unmix: four real recordings told apart."),
    ] = Demo.ANOMALIES,
    out_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Of unmix: where sounds and pictures are written.")
    ] = Path("runs/unmix-demo"),
) -> None:
    """Show the main job on real data that ship with the package, learned online."""
    if what is Demo.UNMIX:
        from stream_em.cli.unmixdemo import demo_unmix

        demo_unmix(out_dir)
    else:
        _find_anomalies()


def _find_anomalies() -> None:
    import shlex
    import shutil
    import sys
    import time

    import numpy as np

    from stream_em.cli import summary
    from stream_em.cli.learning import compile_kernels
    from stream_em.cli.output import console
    from stream_em.demo import LABEL, SENSORS, roc_auc, shuttle_path
    from stream_em.learning.learner import Learner
    from stream_em.models.gaussian_mixture import GaussianMixture
    from stream_em.streams.ahead import read_ahead
    from stream_em.streams.files import open_source

    path = str(shuttle_path())
    labels = np.concatenate([block.values[:, 0] for block in open_source(path, fields=[LABEL])]) > 0
    source = open_source(path, fields=SENSORS, block_size=1024)
    learner = Learner(GaussianMixture(n_components=3), seed=0)
    target = console()
    target.print(
        f"Statlog Shuttle, as shipped with river: {len(labels):,} records of {len(SENSORS)} sensors in random"
        f" order, {labels.mean():.1%} of them labelled anomalous. A mixture of {learner.model.n_components}"
        " Gaussians learns the sensors online, in one pass. Each record is scored before it is learned; the"
        " labels are never shown to the model.\n"
    )
    compiling = compile_kernels(learner.model)
    begin = time.perf_counter()
    scores = -np.concatenate([learner.learn(block) for block in read_ahead(source)])
    seconds = time.perf_counter() - begin
    scored = ~np.isnan(scores)
    auc = roc_auc(scores[scored], labels[scored])
    more = {
        "anomalies": f"ROC AUC {auc:.4f} of -log-likelihood against the labels (0.5: chance, 1: perfect)",
        "without a score": f"{(~scored).sum():,} records: the warm-up that chooses the first parameters",
        "speed": summary.speed(len(scores), seconds, compiling),
    }
    summary.print_report(target, learner, False, more)
    program = "stream-em" if shutil.which("stream-em") else shlex.quote(sys.argv[0])
    fields = ",".join(SENSORS)
    target.print("\nWhat to type next:", style="bold")
    for command in (
        f"fit {shlex.quote(path)} --fields {fields} --components 3 --out runs/shuttle",
        "show runs/shuttle",
        "models",
    ):
        target.print(f"  {program} {command}", soft_wrap=True, markup=False)
