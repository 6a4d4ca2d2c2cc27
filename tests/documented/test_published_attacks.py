"""Presets of attacks named after a source, run on the smallest network, beside what their tables say of the search."""

import pytest

from stages.documented.published import presets, read_paper
from tests.documented.hunting import RED, RESISTS, SHOWS, YIELDS, hunt, manner

ATTACKS = presets("attacks")


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_does_what_its_table_says(name):
    paper = read_paper("attacks", name)
    search = paper.search
    seen = hunt(name, paper.backbone, **search.changes)
    found = seen.attempt.found
    assert len(found) == (len(RED.prompts) if search.searches == "one for each prompt" else search.searches)
    assert seen.losses == {search.loss}
    assert seen.networks == ({search.network} - {"none"})
    assert seen.encoders == {search.encoder}
    hunted = [one for one in found if one.start != SHOWS or not search.looks]
    assert {manner(one.prompt, one.start) for one in hunted} == {search.asks}
    {"tokens": check_bred, "vectors": check_trained}.get(search.moves, check_moved)(search, seen, paper)
    check_stop(search, seen)


def check_moved(search, seen, paper):
    """The optimizers' own count; a search per prompt, or all prompts' rows in one."""
    first = seen.optimizers[: search.optimizers]
    assert sum(each.steps for each in first) == search.steps
    assert {each.rows for each in first} == {search.free * (1 if search.looks else len(RED.prompts))}
    shape = first[0].optimizer.param_groups[0]["params"][0].shape
    assert search.moves == {3: "probabilities" if shape[-1] > 8 else "embeddings", 4: "latents"}[len(shape)]
    check_optimizer(search, first[0].optimizer, paper)
    if search.times:
        assert [*seen.times[:2], seen.times[-1]] == search.times
        assert search.steps % len(seen.times) == 0


def check_trained(search, seen, paper):
    """What the common loop is asked for."""
    (training,), (moved,) = seen.trainings, seen.optimizers
    assert (training.steps, moved.rows) == (search.steps, search.free)
    assert (training.batch, training.accumulate) == (paper.fields["batch"].value, paper.fields["accumulate"].value)
    assert training.schedule == paper.fields["schedule"].value
    check_optimizer(search, moved.optimizer, paper)
    asked = {one.prompt for one in seen.attempt.found}
    assert asked == {template.replace("{}", "<found>") for template in search.templates}


def check_optimizer(search, optimizer, paper):
    assert type(optimizer).__name__ == search.optimizer
    for key in ("lr", "weight_decay"):
        if key in paper.fields and paper.fields[key].value != "not said":
            assert optimizer.param_groups[0][key] == paper.fields[key].value


def check_bred(search, seen, paper):
    """A genetic search: the first generation's size, its free places, and the generations of each search."""
    assert seen.generations == [search.steps] * search.searches
    population = seen.populations[0]
    assert len(population) == paper.fields["population"].value
    assert int((population != population[0]).any(0).sum()) == search.free
    assert seen.optimizers == []
    assert [one.start for one in seen.attempt.found[:4]] == [RESISTS, SHOWS, YIELDS, RESISTS]


def check_stop(search, seen):
    """At the first success, without any search for what succeeds alone; or with the budget."""
    steps = {one.start: one.steps for one in seen.attempt.found}
    if not search.looks:
        assert seen.looks == {} and set(steps.values()) == {search.steps}
        return
    assert SHOWS not in seen.looks
    looks = seen.looks[RESISTS]
    assert {after - before for before, after in zip(looks, looks[1:], strict=False)} == {search.looks}
    assert steps == {RESISTS: search.steps, SHOWS: 0, YIELDS: seen.looks[YIELDS][-1]}
    assert len(seen.looks[YIELDS]) == 2 and len(looks) == search.steps // search.looks
