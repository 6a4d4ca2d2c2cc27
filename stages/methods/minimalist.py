"""Minimalist concept erasure (arXiv 2507.13386): masks that take away what the concept needs, and little else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks, needs
from stages.control.state import Condition, run_seeds
from stages.interventions.flowedit import Resample
from stages.interventions.masks.binarize import kept_shares
from stages.interventions.masks.mask import Mask, replayable
from stages.interventions.masks.places import Family, find_places, sizes
from stages.methods.shared.base import Prompts, frozen, load_method, preservation
from stages.objectives import erase_and_preserve, keep_gap, negative_guidance, open_probability
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, NonNegative, Rate
from stages.reading.unroll import Replay, unroll
from stages.store.record import Record
from stages.training.minimize import Loss, Schedule, minimize


@dataclass
class Minimalist:
    """Trains masks on the frozen network so that its final latents for the concept become those of the target.

    `target`: the neutral prompt or the empty one, from the same noise, or the concept's own picture edited by FlowEdit
    (flows only, through whole runs; the file `edit` of params/methods/ says how). `through`: the sampler (`run`), or
    single predictions along it (`state`) where gradients cannot pass it. `replay`: the mask noise of the forward
    pass again in the backward pass, or `fresh` noise as in the released code. `seeds` counts the starting noises per
    prompt (the code has 1), `sampler_steps` the steps of the unrolled sampler (0: the backbone's). `clear` is the share
    of prompts and noises used: those whose target differs most from the concept's own picture (the paper asks CLIP).
    `push` moves the target of single predictions beyond it, away from the concept's, which the paper does without:
    guidance makes much of the little that is left of the concept, and only whole runs see that in training.
    With `sparsity` the share of open masks is pulled towards `keep`. Scores are kept every `keep_every` steps.
    """

    masks: tuple[Family, ...] = ("hidden", "norm")
    linear: str = ".*(attn|ff).*"
    mode: Literal["hard_concrete", "sigmoid"] = "hard_concrete"
    start: float = 3.0
    noise: Rate = 0.5
    target: Literal["neutral", "empty", "flowedit"] = "neutral"
    edit: str = "flowedit"
    through: Literal["run", "state"] = "run"
    replay: Literal["replayed", "fresh"] = "replayed"
    push: NonNegative = 0.0
    beta: NonNegative = 0.1
    steps: Count = 400
    lr: Rate = 0.5
    batch: Count = 4
    accumulate: Count = 1
    weight_decay: NonNegative = 0.01
    schedule: Schedule = "constant"
    seeds: Count = 16
    sampler_steps: Natural = 0
    clear: Fraction = 1.0
    sparsity: NonNegative = 0.0
    keep: Fraction = 1.0
    keep_every: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Mask:
        """The trained masks; hard concrete ones come back as thresholds, score > 0."""
        places = find_places(backbone, self.masks, self.linear)
        mask = Mask.fresh(sizes(backbone, places), places, self.mode, start=self.start, noise=self.noise)
        mask.to(backbone.device)
        distance = (self.over_runs if self.through == "run" else self.over_states)(backbone, concept, mask, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            value = distance(step, generator)
            return value + self.sparsity * keep_gap(open_shares(mask), self.keep) if self.sparsity else value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "weight_decay": self.weight_decay}
        history = minimize(
            loss,
            mask.parameters(),
            **settings,
            accumulate=self.accumulate,
            keep_every=self.keep_every,
            half=backbone.half,
            seed=seed,
            label="minimalist",
        )
        final = mask.with_scores(dict(mask.items()), "thresholded" if self.mode == "hard_concrete" else self.mode)
        final.kept = {step: dict(zip(mask.names, values, strict=True)) for step, values in history.kept.items()}
        Record.note(kept=kept_shares(final))
        return final

    def over_runs(self, backbone: Backbone, concept: Concept, mask: Mask, seed: int) -> Loss:
        """The distance of final latents, through every step of the sampler."""
        needs(backbone, Walks, "choose through: state")
        if self.push:
            raise ValueError("push is for single predictions; choose through: state")
        pairs = [(prompt, "" if self.target == "empty" else neutral) for prompt, neutral in concept.pairs()]
        retain = list(concept.retain) if self.beta else []
        runs = references(backbone, [*sum(pairs, ()), *retain], self.seeds, self.steps_of(backbone), seed)
        if self.target == "flowedit":
            edits = load_method(self.edit, backbone.name).fit(backbone, concept, seed=seed)
            runs |= {
                f"{prompt} > {neutral}": edited(backbone, edits, prompt, neutral, runs[prompt])
                for prompt, neutral in pairs
            }
            pairs = [(prompt, f"{prompt} > {neutral}") for prompt, neutral in pairs]
        samples = clearest(pairs, runs, self.clear)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = [samples[i] for i in integers(len(samples), self.batch, generator)]
            if self.beta:
                chosen = zip(*(integers(n, self.batch, generator) for n in (len(retain), self.seeds)), strict=True)
                rows += [(retain[i], retain[i], noise) for i, noise in chosen]
            ends = torch.stack([runs[target].latents[noise] for _, target, noise in rows])
            seeds = [runs[target].seeds[noise] for _, target, noise in rows]
            condition = backbone.encode([prompt for prompt, _, _ in rows])
            final = self.final(backbone, mask, condition, ends[:, 0], seeds, generator)
            return erase_and_preserve(final, ends[:, 1], self.batch, self.beta)

        return loss

    def final(
        self,
        backbone: Backbone,
        mask: Mask,
        condition: Condition,
        start: Tensor,
        seeds: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        """The masked network's final latents, with gradients to the scores."""
        first, second = integers(2**62, 2, generator)
        call = {"steps": self.steps_of(backbone), "guidance": backbone.settings.guidance}
        run = Replay(backbone, condition, seeds=seeds, **call)

        def under(noise: int, index: int, latent: Tensor) -> Tensor:
            with mask.noisy(replayable(noise)), mask.attach(backbone):
                return run(index, latent)

        again = second if self.replay == "fresh" else first
        return unroll(
            lambda index, latent: under(first, index, latent),
            len(run),
            start,
            mask.parameters(),
            lambda index, latent: under(again, index, latent),
        )

    def steps_of(self, backbone: Backbone) -> int:
        """Steps of the unrolled sampler."""
        return self.sampler_steps or backbone.settings.steps

    def over_states(self, backbone: Backbone, concept: Concept, mask: Mask, seed: int) -> Loss:
        """The distance of single predictions on the frozen network's trajectories of the concept."""
        if self.target == "flowedit":
            raise ValueError("target: flowedit edits what whole runs end in; choose through: run")
        retain = [*concept.retain, ""]
        backbone.gather([*concept.prompts, *retain], seed)
        pairs, kept = concept.pairs(), Prompts.of(backbone, retain)
        shown = Prompts.of(backbone, [prompt for prompt, _ in pairs])
        wanted = Prompts.of(backbone, ["" if self.target == "empty" else neutral for _, neutral in pairs])

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = shown.indices(self.batch, generator)
            condition = shown.condition.rows(rows)
            state = backbone.draw(condition, generator)
            target = frozen(backbone, state, wanted.condition.rows(rows))
            if self.push:
                target = negative_guidance(target, frozen(backbone, state, condition), self.push)
            with mask.noisy(replayable(integers(2**62, 1, generator)[0])):
                with mask.attach(backbone):
                    value = backbone.distance(backbone.predict(state, condition), target)
                if self.beta:
                    value = value + self.beta * preservation(backbone, mask, kept, self.batch, generator)
            return value

        return loss


@dataclass(frozen=True)
class Runs:
    """First and final latents (n, 2, ...) of a prompt's runs, and the seeds of all their noise."""

    latents: Tensor
    seeds: Sequence[int]


def references(backbone: Backbone, prompts: Sequence[str], seeds: int, steps: int, seed: int) -> dict[str, Runs]:
    """The runs of the network as it is now, `seeds` of them a prompt; from its gathered pools where they serve."""
    prompts, settings = list(dict.fromkeys(prompts)), backbone.settings
    if steps == settings.steps and seeds <= settings.pool:
        backbone.gather(prompts, seed)
        pools = {prompt: backbone.trajectories.pools[prompt][:seeds, [0, -1]].to(backbone.device) for prompt in prompts}
        return {
            prompt: Runs(pool, run_seeds(backbone.trajectories.seeds[prompt], seeds)) for prompt, pool in pools.items()
        }
    numbers, runs = run_seeds(seed, seeds), {}
    for prompt in prompts:
        condition, ends = backbone.encode([prompt]), []
        for rows in backbone.batches(seeds):
            start, owners = backbone.begin(numbers[rows])
            call = {"steps": steps, "guidance": settings.guidance, "generators": owners}
            with torch.no_grad():
                latents = [state.latent for state in backbone.walk(condition.repeat(len(start)), start, **call)]
            ends.append(torch.stack([latents[0], latents[-1]], dim=1))
        runs[prompt] = Runs(torch.cat(ends), numbers)
    return runs


@torch.no_grad()
def edited(backbone: Backbone, edits: Resample, prompt: str, neutral: str, runs: Runs) -> Runs:
    """The prompt's runs with their final latents edited towards the neutral prompt."""
    start, final = runs.latents.unbind(1)
    moved = []
    for rows in backbone.batches(len(final)):
        seeds = runs.seeds[rows]
        source, target = (backbone.encode([text]).repeat(len(seeds)) for text in (prompt, neutral))
        moved.append(edits.edited(backbone, final[rows], source, target, seeds, backbone.settings.steps))
    return Runs(torch.stack([start, torch.cat(moved)], dim=1), runs.seeds)


def clearest(pairs: Sequence[tuple[str, str]], runs: Mapping[str, Runs], share: float) -> list[tuple[str, str, int]]:
    """(prompt, target prompt, noise) of the share of all whose final latents differ most between the two prompts."""
    found = []
    for prompt, target in pairs:
        gaps = (runs[prompt].latents[:, 1] - runs[target].latents[:, 1]).float().square().flatten(1).mean(1)
        found += [(gap, (prompt, target, noise)) for noise, gap in enumerate(gaps.tolist())]
    found.sort(key=lambda item: -item[0])
    return [sample for _, sample in found[: max(1, int(share * len(found)))]]


def open_shares(mask: Mask) -> Tensor:
    """How open every mask is, in one row: probabilities of the hard concrete, or the sigmoid itself."""
    scores = torch.cat([score.flatten() for _, score in mask.items()])
    return open_probability(scores) if mask.mode == "hard_concrete" else scores.sigmoid()


def integers(high: int, n: int, generator: torch.Generator) -> list[int]:
    """n random integers below `high`."""
    return torch.randint(high, (n,), generator=generator).tolist()
