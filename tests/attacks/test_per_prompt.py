"""Attacks per prompt: they skip what succeeds already, stop at success, and say what each search cost."""

import dataclasses

import pytest
import torch

from stages.attacks.base import Victim, measured_seed
from stages.attacks.p4d import P4D
from stages.attacks.unlearndiffatk import UnlearnDiffAtk, projected
from stages.methods.shared.free_tokens import Reader, cuts, marks
from stages.seeds import Purpose

SMALL = UnlearnDiffAtk(tokens=2, samples=4, iterations=2, lr=0.1, readable=True)
SEARCHES = {"unlearndiffatk": SMALL, "p4d": P4D(tokens=3, steps=6, judge_every=2)}


class Judge:
    """Says what it is told, and keeps what it was shown."""

    def __init__(self, *verdicts):
        self.verdicts, self.asked = list(verdicts), []

    def __call__(self, pictures, prompts):
        self.asked += list(prompts)
        return [self.verdicts.pop(0) if self.verdicts else False for _ in prompts]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_prompt_that_succeeds_already_is_not_searched_for(backbone, concept, name):
    judge = Judge(True, True)
    found = SEARCHES[name].search(backbone, concept, seed=0, victim=Victim(sees=judge))
    assert found.prompts == concept.prompts == tuple(judge.asked)
    assert all(one.before and one.after and one.steps == 0 for one in found.found)


def test_it_stops_at_the_first_success_and_tells_the_cost(backbone, concept):
    judge = Judge(False, False, True)  # the first prompt alone, after one time, after two
    attack = dataclasses.replace(SMALL, attempts=1)
    (one,) = attack.search(backbone, concept, seed=0, victim=Victim(sees=judge)).found
    assert (one.before, one.after, one.steps, one.calls) == (False, True, 4, 4)
    assert one.prompt == judge.asked[-1] and one.prompt.endswith(one.start) and one.prompt != one.start
    assert one.pictures == 4 and one.distance > 0  # the aim, the prompt alone, two looks


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_fails_spends_its_budget(backbone, concept, name):
    attack = dataclasses.replace(SEARCHES[name], attempts=1)
    (one,) = attack.search(backbone, concept, seed=0, victim=Victim(sees=Judge())).found
    assert (one.before, one.after) == (False, False)
    assert one.steps == (8 if name == "unlearndiffatk" else 6)


def test_without_a_judge_nothing_is_said_and_the_whole_budget_is_spent(backbone, concept):
    found = SMALL.search(backbone, concept, seed=0).found
    assert [(one.before, one.after, one.steps) for one in found] == [(None, None, 8)] * 2


def test_the_search_looks_at_the_noise_that_is_measured(backbone, concept, monkeypatch):
    seeds = []
    own = backbone.sample
    monkeypatch.setattr(backbone, "sample", lambda c, **run: seeds.append(run["seeds"]) or own(c, **run))
    SMALL.search(backbone, concept, seed=3, victim=Victim(sees=Judge(True, True)))
    assert [measured_seed(0)] in seeds and [measured_seed(1)] in seeds
    assert measured_seed(0) >> 28 == Purpose.ATTACKED


def test_the_loss_falls(backbone, concept):
    """On one picture and one token the gradient finds a better one than the average."""
    attack = dataclasses.replace(SMALL, tokens=1, attempts=1, samples=1, iterations=60, lr=0.05)
    from stages.attacks.shared.aims import Aim
    from stages.attacks.shared.pictures import drawn_pictures
    from stages.attacks.unlearndiffatk import Hunt

    aim = Aim.at(backbone, drawn_pictures(backbone, concept.prompts[:1], 1, 0))
    hunt = Hunt(attack, Reader(backbone), aim, concept.prompts[0], 0)
    fixed = aim.state(0, 500, torch.Generator().manual_seed(5))

    def value(token):
        simplex = hunt.start(torch.Generator().manual_seed(0))
        return float(hunt.loss(simplex, torch.tensor([token]), *fixed)[0])

    losses = torch.tensor([value(token) for token in range(len(hunt.ids))])
    simplex = hunt.start(torch.Generator().manual_seed(0))
    owner = torch.Generator().manual_seed(1)
    for _ in range(attack.iterations):
        _, gradient = hunt.loss(simplex, simplex.draw(owner), *fixed)
        simplex.step(gradient)
    assert losses[simplex.best()[0]] < losses.mean()


def test_free_tokens_are_read_where_they_stand(backbone):
    """The embedding of free rows that are real tokens is that of the text with these tokens."""
    reader = Reader(backbone)
    ids = reader.words("red circle")
    rows = {part: reader.tables[part][torch.tensor(ids)][None] for part in reader.parts}
    for insertion, text in {
        "prefix_k": "red circle a blue shape",
        "suffix_k": "a blue shape red circle",
        "mid_k": "a red circle blue shape",
        "insert_k": "a red blue circle shape",
    }.items():
        said = reader.said(ids, "a blue shape", insertion)
        assert said == text
        found = reader.beside(rows, "a blue shape", insertion, said).tensors["embeds"]
        torch.testing.assert_close(found, backbone.encode([text]).tensors["embeds"])


def test_what_leaves_no_room_is_refused(backbone):
    reader = Reader(backbone)
    rows = {part: reader.tables[part][:11][None] for part in reader.parts}
    with pytest.raises(ValueError, match="11 free tokens are more than tiny reads"):
        reader.beside(rows, "a red circle", "prefix_k", "")
    with pytest.raises(ValueError, match="insertion must be one of prefix_k"):
        cuts("before", 3, 2)


def test_marks_of_a_tokenizer(backbone):
    tokenizer = backbone.texts.tokenizers["text_encoder"]
    assert marks(tokenizer) == ([tokenizer.bos_token_id], [tokenizer.eos_token_id])


def test_the_projection_is_the_nearest_point_of_the_simplex():
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    found = projected(values)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(50))
    others = torch.rand(500, 7, generator=torch.Generator().manual_seed(1)).softmax(-1)
    assert ((values - found).norm(dim=-1)[:, None] <= (values[:, None] - others).norm(dim=-1) + 1e-6).all()
