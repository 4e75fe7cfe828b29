"""A tournament as named arrays and texts, and back."""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream_em.em import model_sizes
from stream_em.errors import InputError
from stream_em.learning.advance import Course
from stream_em.learning.begin import begin_with
from stream_em.learning.recent import Recent
from stream_em.learning.snapshot import Tensors
from stream_em.learning.state import State
from stream_em.learning.tournament import Contender, FollowUp, Regime, Tournament


class Entry(NamedTuple):
    """What is said of a contender beside its arrays."""

    name: str
    entered: int
    first_round: int
    rivals: int


class Names(msgspec.Struct, forbid_unknown_fields=True):
    """What is said of a tournament beside its arrays."""

    champion: str = "start"
    contenders: list[Entry] = []
    regimes: list[str] = []
    checkpoints: int = 0
    follow_up: FollowUp | None = None
    companions: int = 0


def tensors_of(tournament: Tournament) -> tuple[str, Tensors]:
    """Return the texts of a tournament as JSON, and its arrays, which are its own; the champion's have plain names."""
    entries = [Entry(each.name, each.entered, each.first_round, each.rivals) for each in tournament.contenders]
    names = Names(
        tournament.champion,
        entries,
        [each.name for each in tournament.regimes],
        len(tournament.checkpoints),
        tournament.follow_up,
        len(tournament.companions),
    )
    tensors: Tensors = dict(tournament.state._asdict())
    for i, contender in enumerate(tournament.contenders):
        tensors |= _prefixed(f"contender.{i}", contender.state) | {f"contender.{i}.evidence": contender.evidence}
    for i, regime in enumerate(tournament.regimes):
        tensors |= _prefixed(f"regime.{i}", regime.state)
    for i, state in enumerate(tournament.checkpoints):
        tensors |= _prefixed(f"checkpoint.{i}", state)
    for i, state in enumerate(tournament.companions):
        tensors |= _prefixed(f"companion.{i}", state)
    if tournament.companions:
        tensors["companions.shares"] = tournament.shares
    if len(tournament.recent.records):
        tensors |= _prefixed("recent", tournament.recent)
    return msgspec.json.encode(names).decode(), tensors


def tournament_from(course: Course, text: str, tensors: Tensors) -> Tournament:
    """Return the tournament that `tensors_of` gave; raises `InputError` for arrays that do not fit the model."""
    names = msgspec.json.decode(text, type=Names)
    like = begin_with(course, np.zeros(model_sizes(course.sized)[1]))

    def state(prefix: str) -> State:
        return State(*_fitting(tensors, prefix, like.state))

    recent = Recent(*_fitting(tensors, "recent.", like.recent)) if len(like.recent.records) else like.recent
    contenders = []
    for i, entry in enumerate(names.contenders):
        evidence = _fitting(tensors, f"contender.{i}.", Evidence(np.zeros(2)))[0]
        contenders.append(
            Contender(entry.name, state(f"contender.{i}."), entry.entered, entry.first_round, entry.rivals, evidence)
        )
    regimes = [Regime(name, state(f"regime.{i}.")) for i, name in enumerate(names.regimes)]
    checkpoints = [state(f"checkpoint.{i}.") for i in range(names.checkpoints)]
    if names.companions != len(like.companions):
        raise InputError(f"there are {names.companions} companions, not {len(like.companions)}")
    companions = tuple(state(f"companion.{i}.") for i in range(names.companions))
    shares = _fitting(tensors, "companions.", Shares(like.shares))[0] if companions else like.shares
    tournament = Tournament(
        names.champion,
        state(""),
        tuple(contenders),
        tuple(regimes),
        tuple(checkpoints),
        recent,
        names.follow_up,
        companions,
        shares,
    )
    unknown = tensors.keys() - tensors_of(tournament)[1].keys()
    if unknown:
        raise InputError(f"there is no array {min(unknown)}")
    return tournament


class Shares(NamedTuple):
    """The one array of all companions together."""

    shares: Any


class Evidence(NamedTuple):
    """The one array of a contender beside its state."""

    evidence: Any


def _prefixed(prefix: str, arrays: Any) -> Tensors:
    return {f"{prefix}.{name}": array for name, array in arrays._asdict().items()}


def _fitting(tensors: Tensors, prefix: str, like: Any) -> list[Any]:
    """Return the arrays of a NamedTuple by name, if they have the shapes and types of those in `like`."""
    found = []
    for name, expected in like._asdict().items():
        # Before there was a gate nothing was left out.
        array = tensors.get(prefix + name, expected.copy()) if name == "gate" else tensors[prefix + name]
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise InputError(f"{prefix}{name} has shape {array.shape}, not {expected.shape}")
        found.append(array)
    return found
