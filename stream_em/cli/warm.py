"""`stream-em warm`."""

from pathlib import Path
from typing import Annotated

import typer

ROBUST = 10.0
"""What `robust` is made for, if no config says."""


def warm(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Only this config's model.")] = None,
) -> None:
    """Compile what the models need, so that no later command has to wait for it."""
    import typing

    from stream_em.cli.learning import compile_convolutive, compile_kernels, compile_unmixer
    from stream_em.configfile import load_config
    from stream_em.emissions.gaussian import CovarianceType
    from stream_em.models import all_models
    from stream_em.models.gaussian_settings import GaussianSettings

    if config is not None:
        loaded = load_config(config).config
        chosen, robust = [loaded.model], loaded.learner.robust
    else:
        chosen, robust = [], ROBUST
        for kind in all_models().values():
            if issubclass(kind, GaussianSettings):
                chosen += [kind(covariance_type=name) for name in typing.get_args(CovarianceType)]
            else:
                chosen.append(kind())
    for model in chosen:
        described = " ".join(filter(None, [model.name, getattr(model, "covariance_type", "")]))
        print(f"{described}: {compile_kernels(model, robust if model.tells_surprise else None):.1f} s")
    if config is None:
        print(f"unmix: {compile_unmixer() + compile_convolutive():.1f} s")
