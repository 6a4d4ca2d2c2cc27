"""No two purposes share a stream, and no two draws of one purpose do."""

import numpy as np
import pytest
import torch

from stages import seeds
from stages.seeds import Purpose

MILLION = 10**6
FITTED = [purpose for purpose in Purpose if purpose not in (*seeds.MEASURED.values(), Purpose.ATTACKED)]


@pytest.fixture(scope="module")
def drawn() -> dict[Purpose, np.ndarray]:
    """The seeds of a million draws of each purpose: ten runs of a hundred thousand."""
    runs, indices = np.divmod(np.arange(MILLION, dtype=np.uint64), MILLION // 10)
    numbers = seeds.mixed(runs * seeds.DRAWS + indices)
    return {purpose: purpose * seeds.GIVEN + numbers.astype(np.int64) for purpose in Purpose}


def test_the_vectorised_draws_are_those_of_the_function(drawn) -> None:
    for purpose in Purpose:
        for index in (0, 1, 99_999, 100_000, 123_456, MILLION - 1):
            run, draw = divmod(index, MILLION // 10)
            assert seeds.seed_of(purpose, run, draw) == drawn[purpose][index]


def test_purposes_never_meet(drawn) -> None:
    everything = np.concatenate(list(drawn.values()))
    assert len(np.unique(everything)) == len(Purpose) * MILLION


def test_no_seed_of_ours_is_one_that_people_write_into_tables(drawn) -> None:
    for numbers in drawn.values():
        assert numbers.min() >= seeds.GIVEN and numbers.max() < 2**32


@pytest.mark.parametrize("purpose", Purpose)
def test_hashed_draws_stay_with_their_purpose(purpose: Purpose) -> None:
    for value in (
        seeds.seed_of(purpose, 10**9, 5),
        seeds.seed_of(purpose, 0, 10**9),
        seeds.hashed(purpose, "a text", 3),
    ):
        assert value // seeds.GIVEN == purpose
    assert seeds.hashed(purpose, "a", "b") != seeds.hashed(purpose, "b", "a")


def test_noise_that_is_fitted_on_is_never_that_of_pictures_to_tune_by_or_to_report() -> None:
    """A million draws of each: fits of 256 runs, pictures of 4096 rows in all their repeats."""
    runs, indices = np.divmod(np.arange(MILLION, dtype=np.uint64), MILLION // 256)
    fit = np.concatenate(
        [purpose * seeds.GIVEN + seeds.mixed(runs * seeds.DRAWS + indices).astype(np.int64) for purpose in FITTED]
    )
    rows, repeats = np.divmod(np.arange(MILLION, dtype=np.uint64), seeds.REPEATS)
    drawn = seeds.mixed(rows * seeds.REPEATS + repeats).astype(np.int64)
    sides = {split: purpose * seeds.GIVEN + drawn for split, purpose in seeds.MEASURED.items()}
    for split, numbers in sides.items():
        for i in (0, 1, 70_000, MILLION - 1):
            assert seeds.picture(int(rows[i]), int(repeats[i]), split=split) == numbers[i]
    everything = np.concatenate([np.unique(fit), *sides.values()])
    assert len(np.unique(everything)) == len(np.unique(fit)) + 2 * MILLION


def test_beyond_what_is_told_apart_by_number_the_splits_still_are() -> None:
    far = [seeds.picture(10**7, repeat, split=split) for split in seeds.MEASURED for repeat in range(100)]
    assert len(set(far)) == 200
    given = [seeds.picture(3, 1, given=9), seeds.picture(3, 1, given=9, split="tune")]
    assert [seed // seeds.GIVEN for seed in given] == [Purpose.PICTURE, Purpose.TUNING]


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(("run", "index"), [(0, 0), (3, 5), (255, seeds.DRAWS - 1), (17, 99_999)])
def test_the_owner_of_a_seed_is_known(purpose: Purpose, run: int, index: int) -> None:
    assert seeds.owner(seeds.seed_of(purpose, run, index)) == (purpose, run, index)


def test_a_users_seed_has_no_owner() -> None:
    assert seeds.owner(seeds.GIVEN - 1) is None and seeds.owner(0) is None


def test_neighbours_give_unlike_noise() -> None:
    rows = [torch.randn(4096, generator=seeds.generator(Purpose.PICTURE, 0, i)) for i in range(64)]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(64)
    assert correlation.abs().max() < 0.08  # five standard deviations


def test_seeds_of_partial_samples_follow_their_owner() -> None:
    one, two = (seeds.drawn(torch.Generator().manual_seed(3), 8) for _ in range(2))
    assert one == two and len(set(one)) == 8
    assert {value // seeds.GIVEN for value in one} == {Purpose.PARTIAL}


@pytest.mark.parametrize("wrong", [(-1, 0), (0, -1)])
def test_a_negative_seed_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        seeds.seed_of(Purpose.STEP, *wrong)
