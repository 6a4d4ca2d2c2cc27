"""The trials of a search: asked of a seeded sampler, told to a journal on disk, the same again after a kill."""

from __future__ import annotations

import fcntl
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.seeds import Purpose, hashed
from stages.store.processor import processor
from stages.tuning.space import Dimension, Plain

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

TRIALS = 8  # of every method on every architecture, trial 0 among them
STARTUP = 4  # of these, before the sampler learns from earlier ones: trial 0 and random ones
WORST = -1.0  # the objective of a trial whose training ended in numbers that are not finite


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: the objective, the larger the better, and what it was made of, as primitives."""

    objective: float
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int  # from 0, without those that were killed
    settings: Mapping[str, Plain]  # of the searched fields
    objective: float
    parts: Mapping[str, Any]
    seconds: float
    processor: str  # on which it ran
    failed: str = ""  # why it has the worst objective, if its training failed


Objective = Callable[[Mapping[str, Plain]], Outcome]  # settings of the searched fields -> what they come to


def run_trials(
    journal: Path,
    name: str,
    question: str,
    search: Mapping[str, Dimension],
    first: Mapping[str, Plain],
    objective: Objective,
    *,
    n: int = TRIALS,
) -> list[Trial]:
    """Runs what is missing of n trials of a search in a journal, and returns all n, in order.

    Trial 0 takes `first`. What trial i takes follows from the search's name, i and the trials before it, so that one
    that was killed goes on as if it had not been; the trial that it was killed in is run again, whole. `question` tells
    the trials of one objective from those of another under the same name. A FloatingPointError of the objective is a
    trial with the worst objective. ValueError if another process runs trials in this journal, or without optuna.
    """
    optuna = load_optuna()
    journal.parent.mkdir(parents=True, exist_ok=True)
    with claimed(journal):
        mend(journal)
        backend = optuna.storages.journal.JournalFileBackend(str(journal), lock_obj=held(journal))
        storage, study = optuna.storages.JournalStorage(backend), f"{name}: {question}"
        made = optuna.create_study(storage=storage, study_name=study, direction="maximize", load_if_exists=True)
        killed = [trial for trial in made.get_trials(deepcopy=False) if not trial.state.is_finished()]
        for trial in killed:
            made.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        distributions = {name: distribution(dimension) for name, dimension in search.items()}
        while (number := len(finished(made))) < n:
            made.sampler = sampler(name, number, first)
            _run(made, distributions, search, objective)
        return finished(made)[:n]


def _run(
    study: Study,
    distributions: Mapping[str, BaseDistribution],
    search: Mapping[str, Dimension],
    objective: Objective,
) -> None:
    trial, started = study.ask(dict(distributions)), time.perf_counter()
    settings = {name: rounded(search[name], trial.params[name]) for name in search}
    failed = ""
    try:
        outcome = objective(settings)
    except FloatingPointError as error:
        outcome, failed = Outcome(WORST), " ".join(str(error).split())
    said = {
        "settings": settings,
        "parts": dict(outcome.parts),
        "seconds": round(time.perf_counter() - started, 2),
        "processor": processor()["name"],
        "failed": failed,
    }
    for key, value in said.items():
        trial.set_user_attr(key, value)
    study.tell(trial, outcome.objective)


def finished(study: Study) -> list[Trial]:
    """The finished trials of a study in order, numbered without those that were killed."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [Trial(number=i, objective=float(one.values[0]), **one.user_attrs) for i, one in enumerate(done)]


def sampler(name: str, number: int, first: Mapping[str, Plain]) -> Any:
    """What chooses the settings of trial `number`: TPE, seeded by the name of the search and that number."""
    from optuna.samplers import PartialFixedSampler, TPESampler

    tpe = TPESampler(seed=hashed(Purpose.TRIAL, name, number), n_startup_trials=STARTUP)
    if number:
        return tpe
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the class is experimental
        return PartialFixedSampler(dict(first), tpe)


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as the sampler knows it."""
    from optuna import distributions

    if dimension.choice is not None:
        return distributions.CategoricalDistribution(dimension.choice)
    low, high = dimension.ends
    if dimension.integer is not None:
        return distributions.IntDistribution(int(low), int(high))
    return distributions.FloatDistribution(low, high, log=dimension.log is not None)


def rounded(dimension: Dimension, value: Plain) -> Plain:
    """A drawn value with three digits, so that a file can hold it; whole numbers and choices as they are."""
    if dimension.way not in ("log", "linear"):
        return value
    low, high = dimension.ends
    return min(max(float(f"{float(value):.3g}"), low), high)


def load_optuna() -> Any:
    """The library, quiet about each trial; ValueError that says what to install without it."""
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise ValueError("optuna is not installed: pip install 'palimpsest[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def held(journal: Path) -> Any:
    """A lock that is always had: `claimed` has claimed the journal for this process already."""
    from optuna.storages.journal import JournalFileOpenLock

    class Held(JournalFileOpenLock):
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            return None

    return Held(str(journal))


@contextmanager
def claimed(journal: Path) -> Iterator[None]:
    """Claims a journal for this process, by a lock that the kernel drops with it; ValueError if another one has it."""
    with journal.with_name(f".{journal.name}.alive").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{journal}: another process runs trials of it; wait for that one, or end it") from None
        yield


def mend(journal: Path) -> None:
    """Cuts off the line in the middle of which the writer of a journal was killed."""
    if not journal.is_file():
        return
    data = journal.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with journal.open("r+b") as file:
            file.truncate(len(whole))
