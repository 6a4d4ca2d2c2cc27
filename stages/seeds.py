"""The owner of every random number: a seed for each (purpose, seed, index), and no seed of two purposes.

torch's generator on the CPU keeps 32 bits of its seed. So the upper 4 bits say the purpose and the lower 28 which draw
it is: the streams of two purposes cannot meet, whatever their seeds. Inside one purpose 256 runs of 2^20 draws each are
distinct by construction; beyond that, draws are hashed. Seeds below 2^28 are left to the tables of others, whose seeds
are kept as they stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIVEN = 2**28  # seeds below this are a user's own
RUNS, DRAWS = 2**8, 2**20  # told apart by construction
REPEATS = 2**8  # pictures of one row of a prompt table


class Purpose(IntEnum):
    """What random numbers are drawn for."""

    WORLD = 1  # pictures and captions that a world renders
    WEIGHTS = 2  # a network's or an adapter's first weights
    STEP = 3  # one step of a training
    POOL = 4  # the frozen network's trajectories that methods train on
    PARTIAL = 5  # partial samples of the network in training
    ACTIVATIONS = 6  # pictures during which activations are read
    ENEMY = 7  # adversaries inside a method
    MASK = 8  # noise on masks
    EDIT = 9  # noise that an edit of the sampler adds
    PICTURE = 10  # measured pictures
    ATTACK = 11  # an attack's search
    ATTACKED = 12  # pictures of what an attack found
    BOOTSTRAP = 13  # intervals
    TUNING = 14  # pictures by which settings are chosen
    TRIAL = 15  # settings that a search tries


MEASURED = {"tune": Purpose.TUNING, "test": Purpose.PICTURE}  # by split, what measured pictures are drawn for


def seed_of(purpose: Purpose, run: int, index: int = 0) -> int:
    """The seed, in [2^28, 2^32), of draw `index` for a purpose in a run; ValueError if a number is negative."""
    if run < 0 or index < 0:
        raise ValueError(f"a seed and its index must be 0 or more, got {run} and {index}")
    if run < RUNS and index < DRAWS:
        return purpose * GIVEN + mixed(run * DRAWS + index)
    return hashed(purpose, run, index)


def hashed(purpose: Purpose, *parts: object) -> int:
    """The seed, in [2^28, 2^32), of a draw that texts and numbers name; equal parts give equal seeds."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return purpose * GIVEN + int.from_bytes(digest[:4], "little") % GIVEN


FITTING = (Purpose.POOL, Purpose.ACTIVATIONS)  # purposes of the network's own runs that methods learn from


def owner(seed: int) -> tuple[Purpose, int, int] | None:
    """The purpose, run and index whose `seed_of` this is; None for a seed that is left to the tables of others.

    A hashed draw has an owner, too, though not the one that it was made for.
    """
    if seed // GIVEN not in list(Purpose):
        return None
    return Purpose(seed // GIVEN), *divmod(unmixed(seed % GIVEN), DRAWS)


def pool(run: int, n: int) -> list[int]:
    """The seeds of the n trajectories of each prompt that a run trains on."""
    return [seed_of(Purpose.POOL, run, i) for i in range(n)]


def picture(place: int, repeat: int, given: int | None = None, split: str = "test") -> int:
    """The seed of a measured picture: of the row at `place` of its table, drawn for the `repeat`-th time.

    It knows no run: every method, trained with whatever seed, is measured on the same noise, picture by picture.
    Settings are chosen (`split` "tune") by other noise than is reported ("test"). A seed `given` in the table is kept
    for the first picture of the row in test; if it is below 2^28, it meets none of ours. KeyError for another split.
    """
    if (purpose := MEASURED[split]) is Purpose.TUNING:
        return seed_of(purpose, 0, place * REPEATS + repeat)
    if given is None:
        return seed_of(Purpose.PICTURE, 0, place * REPEATS + repeat)
    return given if repeat == 0 else hashed(Purpose.PICTURE, given, repeat, "repeat")


def mixed(number: int) -> int:
    """A bijection of 0 .. 2^28 - 1 that leaves no order among neighbours."""
    for shift, odd in ((14, 0x2C1B3C6D), (12, 0x297A2D39)):
        number ^= number >> shift
        number = number * odd % GIVEN
    return number ^ number >> 15


def unmixed(number: int) -> int:
    """The number that `mixed` makes this one of."""
    number ^= number >> 15
    for shift, odd in ((12, 0x297A2D39), (14, 0x2C1B3C6D)):
        number = number * pow(odd, -1, GIVEN) % GIVEN
        number ^= number >> shift ^ number >> 2 * shift
    return number


def generator(purpose: Purpose, run: int, index: int = 0) -> torch.Generator:
    """The generator, on the CPU, that owns one draw."""
    import torch  # here, so that reading prompts needs no torch

    return torch.Generator().manual_seed(seed_of(purpose, run, index))


def drawn(owner: torch.Generator, n: int) -> list[int]:
    """Seeds of n partial samples, drawn from a training step's generator."""
    import torch

    return [Purpose.PARTIAL * GIVEN + value for value in torch.randint(GIVEN, (n,), generator=owner).tolist()]


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """One generator, on the CPU, per seed."""
    import torch

    return [torch.Generator().manual_seed(int(value)) for value in seeds]
