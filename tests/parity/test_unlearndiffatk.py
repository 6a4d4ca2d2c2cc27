"""UnlearnDiffAtk: placement, projection, and every iteration of the recorded courses, replayed with their draws."""

import pytest
import torch

from stages.attacks.shared.aims import Aim
from stages.attacks.unlearndiffatk import Hunt, Simplex, UnlearnDiffAtk, passed, projected
from stages.methods.shared.free_tokens import Reader, placed
from tests.parity import words
from tests.parity.fixtures import Fixtures
from tests.parity.words import near

FIXTURES = Fixtures("methods/unlearndiffatk")
MANIFEST = FIXTURES.manifest
WITHIN = MANIFEST["tolerances"]
COURSES = list(enumerate(MANIFEST["courses"]))


@pytest.mark.parametrize("case", MANIFEST["placements"], ids=lambda case: f"{case['case']}-{case['insertion']}")
def test_placement(case):
    stored = FIXTURES.tensors("placement.safetensors", f"case{case['case']}.")
    ids, free, n = stored["prompt_ids"], stored["free_tokens"], case["prompt_len"]
    assert free.shape[1] == case["k"]
    parts = ids[:, :1], ids[:, 1 : 1 + n], ids[:, 1 + n + case["k"] :]
    found = placed(parts, free, case["insertion"])
    assert found.shape[1] == case["result_len"]
    assert torch.equal(found, stored["result"])


def test_projection_and_straight_through():
    stored = FIXTURES.tensors("pieces.safetensors")
    found = projected(stored["projection.in"])
    near(found, stored["projection.out"], WITHIN["projection_abs"])
    near(found.sum(-1), torch.ones(found.shape[:-1]), WITHIN["projection_row_sum_abs"])
    # as in a backward pass: `grad_out` arrives at the draw, `grad_in` is handed on to the probabilities
    assert torch.equal(passed(stored["straight_through.grad_out"]), stored["straight_through.grad_in"])


def attack(course):
    return UnlearnDiffAtk(
        tokens=course["k"],
        insertion=course["insertion"],
        samples=course["n_samples"],
        iterations=course["iteration"],
        lr=course["lr"],
        weight_decay=course["weight_decay"],
        criterion=course["criterion"],
        random_start=course["rand_init"],
    )


def hunt(number, course):
    stored = FIXTURES.tensors(f"course{number}.safetensors")
    backbone = words.backbone(FIXTURES, "unet_erased.safetensors")
    aim = Aim(backbone, torch.zeros(1, 3, 8, 8), stored["x0"])
    prompt = words.written(stored["prompt_ids"], MANIFEST)
    reader = Reader(backbone)
    assert len(reader.words(prompt)) == course["prompt_len"]
    return stored, Hunt(attack(course), reader, aim, prompt, 0)


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_times(number, course):
    _, search = hunt(number, course)
    assert search.aim.times(course["n_samples"]) == course["sampled_t"]


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_every_iteration_from_its_recorded_state(number, course):
    stored, search = hunt(number, course)
    backbone = search.reader.backbone
    near(projected(stored["init.before_projection"]), stored["u0"], WITHIN["projection_abs"])
    if not course["rand_init"]:
        started = search.start(torch.Generator())
        assert torch.equal(started.values, projected(stored["init.before_projection"]))
    values = stored["u0"]
    simplex = Simplex(values, course["lr"], course["weight_decay"])
    for i in range(course["iteration"] * course["n_samples"]):
        at = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"it{i}.")}
        time = course["sampled_t"][i // course["iteration"]]
        assert int(at["t"]) == time
        state, target = search.aim.noised(stored["x0"], at["noise"], time)
        near(state.latent, at["x_t"], WITHIN["x_t_abs"])
        assert torch.equal(target, at["noise"])
        seen = look(search, at, course)
        near(seen["input"], at["input_embeds"], WITHIN["input_embeds_abs"])
        near(seen["text"], at["text"], WITHIN["text_abs"])
        near(backbone.predict(state, seen["condition"]), at["pred"], WITHIN["pred_abs"])
        simplex.values.data.copy_(values)
        loss, gradient = search.loss(simplex, at["sampled_tokens"], state, target)
        near(loss, at["loss"], WITHIN["loss_abs"])
        limit = WITHIN["grad_rel"] * float(at["grad"].abs().max())
        near(passed(gradient), at["grad"], limit)
        simplex.step(gradient)
        moments = simplex.adam.state[simplex.values]
        near(moments["exp_avg"], at["adam_m"], WITHIN["adam_from_recorded_state_abs"])
        near(moments["exp_avg_sq"], at["adam_v"], WITHIN["adam_from_recorded_state_abs"])
        limit = WITHIN["adam_from_recorded_state_abs"] + WITHIN["projection_abs"]
        near(simplex.values.detach(), at["u_projected"], limit)
        values = at["u_projected"]


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_a_free_run_with_the_recorded_draws(number, course):
    stored, search = hunt(number, course)
    simplex = Simplex(stored["u0"], course["lr"], course["weight_decay"])
    for i in range(course["iteration"] * course["n_samples"]):
        time = course["sampled_t"][i // course["iteration"]]
        state, target = search.aim.noised(stored["x0"], stored[f"it{i}.noise"], time)
        _, gradient = search.loss(simplex, stored[f"it{i}.sampled_tokens"], state, target)
        simplex.step(gradient)
        done, over = divmod(i + 1, course["iteration"])
        if not over:
            final = stored[f"t{done - 1}.final_ids"]
            assert search.said(simplex) == words.written(final, MANIFEST)
    near(simplex.values.detach(), stored["u_final"], WITHIN["u_free_run_abs"])
    assert simplex.best() == stored["final_tokens"][0].tolist()


@torch.no_grad()
def look(search, at, course):
    """What the text encoder is given and what it makes of it."""
    seen = {}
    hot = torch.nn.functional.one_hot(at["sampled_tokens"], len(search.ids))[None].float()
    rows = {part: hot @ table for part, table in search.tables.items()}
    note = search.reader._encoded

    def noted(text, fill, said):
        return note(text, lambda part, h: seen.setdefault("input", fill(part, h)), said)

    search.reader._encoded = noted
    try:
        seen["condition"] = search.reader.beside(rows, search.prompt, course["insertion"], "")
    finally:
        search.reader._encoded = note
    seen["text"] = seen["condition"].tensors["embeds"]
    return seen
