"""Minimalist concept erasure (arXiv 2507.13386): masks that take away what the concept needs, and little else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks, needs
from stages.control.state import Condition
from stages.interventions.flowedit import Resample
from stages.interventions.masks.binarize import kept_shares
from stages.interventions.masks.mask import Mask, replayable
from stages.interventions.masks.places import Family, find_places, sizes
from stages.methods.shared.base import Prompts, frozen, load_method
from stages.methods.shared.data import FromPairs
from stages.methods.shared.preservation import Preservation
from stages.objectives import erase_and_preserve, keep_gap, negative_guidance, open_probability
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Fraction, Makes, Natural, Needs, NonNegative, Rate, Refuses
from stages.reading.unroll import Replay, unroll
from stages.seeds import pool as seeds_of_pool
from stages.store.record import Record
from stages.training.float16 import LossScale
from stages.training.minimize import Loss, minimize
from stages.training.progress import Companion
from stages.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Minimalist(FromPairs, Training):
    """MSE(final latents of the concept, of the target) + beta MSE(of the retain prompts, before and after), for masks
    on the frozen network, through the whole sampler. arXiv 2507.13386.

    Hard concrete masks come back as thresholds, score > 0.
    """

    READS: ClassVar[Reads] = {"through": {"run": "ends", "state": "all"}}
    NEEDS: ClassVar[Needs] = {
        "linear": {"masks": ("linear",)},
        "noise": {"mode": ("hard_concrete",)},
        "edit": {"target": ("flowedit",)},
        "replay": {"through": ("run",), "mode": ("hard_concrete",)},
        "push": {"through": ("state",)},
        "seeds": {"through": ("run",)},
        "sampler_steps": {"through": ("run",)},
        "clear": {"through": ("run",)},
        "keep": {"sparsity": True},
    }
    REFUSES: ClassVar[Refuses] = {
        "through == 'run' and push": "push is for single predictions; choose through: state, or push: 0",
        "through == 'state' and target == 'flowedit'": (
            "target: flowedit edits what whole runs end in; choose through: run, or target: neutral"
        ),
    }
    MAKES: ClassVar[Makes] = {"edit": "Resample"}

    masks: tuple[Family, ...] = ("hidden", "norm")  # what is masked
    linear: str = ".*(attn|ff).*"  # regular expression of the layers that the family `linear` masks
    mode: Literal["hard_concrete", "sigmoid"] = "hard_concrete"
    start: float = 3.0  # all scores before training
    noise: Rate = 0.5  # of the hard concrete; at 0.5 within +-log 3
    # Latents of the neutral or the empty prompt from the same noise, or the concept's own edited by FlowEdit (flows).
    target: Literal["neutral", "empty", "flowedit"] = "neutral"
    edit: str = "flowedit"  # the method of params/methods/ that says how FlowEdit edits
    # `state`: single predictions on the way instead of whole runs, for samplers that gradients cannot pass.
    through: Literal["run", "state"] = "run"
    replay: Literal["replayed", "fresh"] = "replayed"  # mask noise of the backward pass; the released code draws anew
    # Moves the target of single predictions beyond it, away from the concept's; the paper does not. Needed because
    # guidance amplifies what is left of the concept, which single, unguided predictions do not show.
    push: NonNegative = 0.0
    beta: NonNegative = 0.1  # weight of the retain prompts
    seeds: Count = 16  # starting noises per prompt; the released code has 1
    sampler_steps: Natural = 0  # of the unrolled sampler; 0: the backbone's
    clear: Fraction = 1.0  # share of prompts and noises used: those whose target differs most (the paper asks CLIP)
    sparsity: NonNegative = 0.0  # weight of (share of open masks - keep)^2
    keep: Fraction = 1.0  # the share of open masks to reach
    keep_every: Natural = 0  # steps between scores that are kept on the way; 0: none are
    batch: Count = 4
    steps: Count = 400
    lr: Rate = 0.5
    weight_decay: NonNegative = 0.01

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Mask:
        """The trained masks; ValueError for fields that contradict each other or that the backbone cannot serve."""
        concept = self.learned(concept)
        places = find_places(backbone, self.masks, self.linear)
        mask = Mask.fresh(sizes(backbone, places), places, self.mode, start=self.start, noise=self.noise)
        mask.to(backbone.device)
        distance = (self.over_runs if self.through == "run" else self.over_states)(backbone, concept, mask, seed)
        kept = KeptScores(mask, self.keep_every)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            kept.note(step)
            value = distance(step, generator)
            return value + self.sparsity * keep_gap(open_shares(mask), self.keep) if self.sparsity else value

        companions: list[Companion] = [kept, LossScale(backbone.through_float16)]
        minimize(loss, mask.parameters(), self, seed=seed, label="minimalist", companions=companions)
        kept.note(self.steps)
        final = mask.with_scores(dict(mask.items()), "thresholded" if self.mode == "hard_concrete" else self.mode)
        final.kept = {step: dict(zip(mask.names, values, strict=True)) for step, values in kept.scores.items()}
        Record.note(kept=kept_shares(final))
        return final

    def over_runs(self, backbone: Backbone, concept: Concept, mask: Mask, seed: int) -> Loss:
        """The distance of final latents, through every step of the sampler; ValueError for a backbone without such a
        sampler."""
        needs(backbone, Walks, "choose through: state")
        retain = list(concept.retain) if self.beta else []
        pairs, runs = self._targets(backbone, concept, retain, seed)
        samples = clearest(pairs, runs, self.clear)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = [samples[i] for i in integers(len(samples), self.batch, generator)]
            if self.beta:
                drawn = zip(*(integers(n, self.batch, generator) for n in (len(retain), self.seeds)), strict=True)
                rows += [(retain[i], retain[i], noise) for i, noise in drawn]
            ends = torch.stack([runs[target].latents[noise] for _, target, noise in rows])
            seeds = [runs[target].seeds[noise] for _, target, noise in rows]
            condition = backbone.encode([prompt for prompt, _, _ in rows])
            final = self.final(backbone, mask, condition, ends[:, 0], seeds, generator)
            return erase_and_preserve(final, ends[:, 1], self.batch, self.beta)

        return loss

    def _targets(
        self, backbone: Backbone, concept: Concept, retain: Sequence[str], seed: int
    ) -> tuple[list[tuple[str, str]], dict[str, Runs]]:
        """Each concept prompt with the name of its target's runs, and all runs, those of the retain prompts too."""
        pairs = [(prompt, "" if self.target == "empty" else neutral) for prompt, neutral in concept.pairs()]
        runs = references(backbone, [*sum(pairs, ()), *retain], self.seeds, self.steps_of(backbone), seed)
        if self.target != "flowedit":
            return pairs, runs
        edits = load_method(self.edit, backbone.name, kind=concept.kind).fit(backbone, concept, seed=seed)
        if not isinstance(edits, Resample):
            raise ValueError(f"edit: {self.edit} makes a {type(edits).__name__}, not an edit of samples; take flowedit")
        for prompt, neutral in pairs:
            runs[f"{prompt} > {neutral}"] = edited(backbone, edits, prompt, neutral, runs[prompt])
        return [(prompt, f"{prompt} > {neutral}") for prompt, neutral in pairs], runs

    def final(
        self,
        backbone: Backbone,
        mask: Mask,
        condition: Condition,
        start: Tensor,
        seeds: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        """The masked network's final latents (B, ...) from the first ones `start`, with gradients to the scores."""
        first, second = integers(2**62, 2, generator)
        steps, guidance = self.steps_of(backbone), backbone.settings.guidance
        run = Replay(backbone, condition, seeds=seeds, steps=steps, guidance=guidance)

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
        backbone.gather([*concept.prompts, *concept.retain, ""], seed)
        pairs = concept.pairs()
        preservation = Preservation.of(backbone, concept, self.beta, 1 if self.beta else 0, seed)
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
                return value + preservation(mask, self.batch, generator)

        return loss


class KeptScores:
    """A mask's scores at every so many steps of its training; a companion of it."""

    def __init__(self, mask: Mask, every: int) -> None:
        self.mask, self.every = mask, every
        self.scores: dict[int, list[Tensor]] = {}

    def note(self, done: int) -> None:
        """Keeps the scores after `done` steps, if it is their turn."""
        if self.every and done and done % self.every == 0:
            self.scores[done] = [score.detach().clone() for _, score in self.mask.items()]

    def state_dict(self) -> dict[str, Any]:
        """The scores by step."""
        return {"scores": self.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        devices = [score.device for _, score in self.mask.items()]
        self.scores = {
            step: [value.to(device) for value, device in zip(values, devices, strict=True)]
            for step, values in state["scores"].items()
        }


@dataclass(frozen=True)
class Runs:
    """First and final latents (n, 2, ...) of a prompt's runs, and the seeds of all their noise."""

    latents: Tensor
    seeds: Sequence[int]


def references(backbone: Backbone, prompts: Sequence[str], seeds: int, steps: int, seed: int) -> dict[str, Runs]:
    """The runs of the network as it is now, `seeds` of them a prompt; from its gathered pools if they are of as many
    steps."""
    prompts, settings = list(dict.fromkeys(prompts)), backbone.settings
    if steps == settings.steps and seeds <= settings.pool:
        backbone.gather(prompts, seed, "ends")
        pools = {prompt: backbone.trajectories.pools[prompt][:seeds, [0, -1]].to(backbone.device) for prompt in prompts}
        return {
            prompt: Runs(pool, seeds_of_pool(backbone.trajectories.seeds[prompt], seeds))
            for prompt, pool in pools.items()
        }
    sampler = needs(backbone, Walks, "choose through: state, or stop: 0")
    numbers, runs = seeds_of_pool(seed, seeds), {}
    for prompt in prompts:
        condition, ends = backbone.encode([prompt]), []
        for rows in settings.batches(seeds):
            start, owners = sampler.begin(numbers[rows])
            call: dict[str, Any] = {"steps": steps, "guidance": settings.guidance, "generators": owners}
            with torch.no_grad():
                latents = [state.latent for state in sampler.walk(condition.repeat(len(start)), start, **call)]
            ends.append(torch.stack([latents[0], latents[-1]], dim=1))
        runs[prompt] = Runs(torch.cat(ends), numbers)
    return runs


@torch.no_grad()
def edited(backbone: Backbone, edits: Resample, prompt: str, neutral: str, runs: Runs) -> Runs:
    """The prompt's runs with their final latents edited towards the neutral prompt."""
    start, final = runs.latents.unbind(1)
    moved = []
    for rows in backbone.settings.batches(len(final)):
        seeds = runs.seeds[rows]
        source, target = (backbone.encode([text]).repeat(len(seeds)) for text in (prompt, neutral))
        moved.append(edits.edited(backbone, final[rows], source, target, seeds, backbone.settings.steps))
    return Runs(torch.stack([start, torch.cat(moved)], dim=1), runs.seeds)


def clearest(pairs: Sequence[tuple[str, str]], runs: Mapping[str, Runs], share: float) -> list[tuple[str, str, int]]:
    """(prompt, target prompt, noise) of the share of all whose final latents differ most between the two prompts."""
    samples = []
    for prompt, target in pairs:
        gaps = (runs[prompt].latents[:, 1] - runs[target].latents[:, 1]).float().square().flatten(1).mean(1)
        samples += [(gap, (prompt, target, noise)) for noise, gap in enumerate(gaps.tolist())]
    samples.sort(key=lambda item: -item[0])
    return [sample for _, sample in samples[: max(1, int(share * len(samples)))]]


def open_shares(mask: Mask) -> Tensor:
    """How open every mask is, (N,) for all N scores: probabilities of the hard concrete, or the sigmoid itself."""
    scores = torch.cat([score.flatten() for _, score in mask.items()])
    return open_probability(scores) if mask.mode == "hard_concrete" else scores.sigmoid()


def integers(high: int, n: int, generator: torch.Generator) -> list[int]:
    """n random integers below `high`."""
    return torch.randint(high, (n,), generator=generator).tolist()
