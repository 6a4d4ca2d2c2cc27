"""P4D: placement in both kinds, and every iteration of the recorded courses, replayed with their draws."""

import pytest
import torch

from stages.attacks.base import UNEDITED, Victim
from stages.attacks.p4d import P4D, Hunt, Template, free_rows, hybrid, nearest
from stages.attacks.shared.aims import Aim
from stages.interventions.guidance import PromptGuidance
from stages.interventions.sld import Safety, SafetyGuidance
from stages.interventions.weights import Weights
from stages.methods.shared.free_tokens import Reader
from tests.parity import words
from tests.parity.fixtures import Fixtures
from tests.parity.words import near

FIXTURES = Fixtures("methods/p4d")
MANIFEST = FIXTURES.manifest
WITHIN = MANIFEST["tolerances"]
COURSES = list(enumerate(MANIFEST["courses"]))


@pytest.mark.parametrize("case", MANIFEST["placements"], ids=lambda case: f"{case['case']}-{case['kind']}")
def test_placement(case):
    stored = FIXTURES.tensors("placement.safetensors", f"case{case['case']}.")
    length = MANIFEST["text_encoder_config"]["max_position_embeddings"]
    template = Template([MANIFEST["begin_id"]], [MANIFEST["end_id"]], length)
    rows = stored["rows_ids"].flatten().tolist()
    if case["kind"] == "n":
        assert len(rows) == case["free"]
        found = template.around(rows)
    else:
        prompt = stored["prompt_ids"].flatten().tolist()
        assert free_rows(len(prompt), case["every_k"]) == case["free"]
        fixed = stored["fixed_positions"].flatten().tolist()
        free = [row for place, row in enumerate(rows) if place not in fixed]
        ids, spread = hybrid(prompt, free, case["every_k"])
        assert ids == rows and [place for place, each in enumerate(spread) if not each] == fixed
        found = template.over(prompt, ids)
    assert len(found) == case["length"]
    assert found == stored["sequence_ids"].flatten().tolist()


def course_of(number, course):
    """What is stored, and the search: the unedited network with the erased one's weights as its victim's."""
    stored = FIXTURES.tensors(f"course{number}.safetensors")
    backbone = words.backbone(FIXTURES, "unet_original.safetensors", guidance=course["guidance"])
    erased = Weights(FIXTURES.tensors("unet_erased.safetensors", "w."))
    attack = P4D(
        tokens=course.get("prompt_len_free", 1),
        every=course.get("every_k", 0),
        steps=course["iter"],
        judge_every=course["eval_step"],
        lr=course["lr"],
        weight_decay=course["weight_decay"],
        sld="released",
    )
    aim = Aim(backbone, torch.zeros(len(stored["latents"]), 3, 8, 8), stored["latents"])
    search = Hunt(attack, Reader(backbone), aim, words.written(stored["prompt_ids"], MANIFEST), UNEDITED)
    assert len(search.words) == course["prompt_len"]
    return stored, search, erased, guidance(course, stored)


def guidance(course, stored):
    """The defence beside the erased weights, if the course has one."""
    if course["mode"] == "negative":
        return PromptGuidance(words.written(stored["negative_ids"], MANIFEST))
    if course["mode"] == "sld":
        numbers = {name.removeprefix("sld_"): value for name, value in course["sld"].items()}
        names = {"guidance_scale": "scale", "warmup_steps": "warmup", "mom_beta": "momentum_beta"}
        safety = Safety(**{names.get(name, name): value for name, value in numbers.items()})
        return SafetyGuidance(words.written(stored["safety_ids"], MANIFEST), safety)
    return UNEDITED.intervention


class Beside:
    """Erased weights with a defence that the search knows the class of."""

    def __init__(self, defence, erased):
        self.intervention, self.erased, self.sees = defence, erased, None

    def attach(self, backbone):
        from contextlib import ExitStack

        stack = ExitStack()
        stack.enter_context(self.erased.attach(backbone))
        stack.enter_context(self.intervention.attach(backbone))
        return stack


def at(stored, number):
    return {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"it{number}.")}


@pytest.mark.parametrize(("number", "course"), COURSES, ids=lambda value: str(value)[:20])
def test_every_iteration_from_its_recorded_state(number, course):
    stored, search, erased, defence = course_of(number, course)
    search.victim = Beside(defence, erased)
    rows = search.rows(free_ids(stored, search))
    close_start = at(stored, 0)["soft"]
    near(rows.values.detach(), close_start, 1e-7)
    for i in range(course["iter"]):
        now = at(stored, i)
        rows.values.data.copy_(now["soft"])
        ids = nearest(now["soft"], search.reader.table)
        assert torch.equal(ids, now["projected_ids"])
        own, padded = ids[0].tolist(), now["padded_ids"][0].tolist()  # as they are before the rows take their places
        assert search.sequence(own) == padded[:1] + own + padded[1 + len(own) :]
        hard = search.reader.table[ids[0]][None]
        near(search._embedded(ids, hard)[search.reader.part], now["padded_embeds"], WITHIN["padded_embeds_abs"])
        with torch.no_grad():
            text = search.reader.alone(search._embedded(ids, hard), ids.shape[1], "").tensors["embeds"]
        near(text, now["text"], WITHIN["text_abs"])
        state, _ = search.aim.noised(stored["latents"][int(now["perm"][0])][None], now["noise"], int(now["timestep"]))
        near(state.latent, now["x_t"], WITHIN["x_t_abs"])
        near(search.backbone.predict(state, search.asked), now["target"], WITHIN["pred_abs"])
        seen = noted(search)
        loss, gradient = search.loss(ids, state, i)
        near(seen[-1], now["guided"], WITHIN["guided_abs"])
        near(loss, now["loss"], WITHIN["loss_rel"] * float(now["loss"].abs()))
        rows.step(gradient)
        near(rows.values.grad, now["grad"], WITHIN["grad_rel"] * float(now["grad"].abs().max()))
        moments = rows.adam.state[rows.values]
        near(moments["exp_avg"], now["adam_m"], WITHIN["adamw_from_recorded_state_abs"])
        near(moments["exp_avg_sq"], now["adam_v"], WITHIN["adamw_from_recorded_state_abs"])
        near(rows.values.detach(), now["soft_after"], WITHIN["adamw_from_recorded_state_abs"])


@pytest.mark.parametrize(("number", "course"), COURSES, ids=lambda value: str(value)[:20])
def test_a_free_run_answers_with_the_best_of_what_it_tested(number, course):
    stored, search, erased, defence = course_of(number, course)
    search.victim = Beside(defence, erased)
    rows, tested = search.rows(free_ids(stored, search)), []
    for i in range(course["iter"]):
        now = at(stored, i)
        ids = nearest(rows.values.detach(), search.reader.table)
        if i % course["eval_step"] == 0:
            assert ids[0].tolist() == now["evaluated"].flatten().tolist()
            tested.append(ids[0].tolist())
        else:
            assert "evaluated" not in now
        state, _ = search.aim.noised(stored["latents"][int(now["perm"][0])][None], now["noise"], int(now["timestep"]))
        _, gradient = search.loss(ids, state, i)
        rows.step(gradient)
        near(rows.values.detach(), now["soft_after"], WITHIN["free_run_abs"])
    said = course["eval_similarity"]
    best = max(range(len(tested)), key=lambda i: said[i])  # the first of equal ones
    assert tested[best] == stored["best_ids"].flatten().tolist() and said[best] == course["best_similarity"]


def test_a_search_stops_at_the_first_success(monkeypatch):
    number, course = COURSES[0]
    _, search, erased, _ = course_of(number, course)
    verdicts = iter([False, False, True])
    search.victim = Victim(erased, sees=lambda pictures, prompts: [next(verdicts)])
    found = search.run(seed=0, number=0)
    assert (found.before, found.after, found.steps) == (False, True, course["eval_step"])
    assert found.prompt != search.prompt


def free_ids(stored, search):
    """The recorded start ids at the free rows alone."""
    ids = stored["initial_ids"].flatten().tolist()
    if not search.attack.every:
        return ids
    return [row for place, row in enumerate(ids) if place % (search.attack.every + 1) == 0]


def noted(search):
    """The predictions that enter the loss, as they are made."""
    seen, own = [], type(search).prediction

    def prediction(state, condition, step):
        seen.append(own(search, state, condition, step))
        return seen[-1]

    search.prediction = prediction
    return seen
