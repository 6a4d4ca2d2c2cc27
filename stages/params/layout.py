"""Where the files of a run lie under artifacts/: one rule for the workflow, the entries and the report."""

from __future__ import annotations

from pathlib import Path

from stages.params.project import located

ARTIFACTS = "artifacts"
RUNS = "runs"
RUN = f"{ARTIFACTS}/{RUNS}/{{backbone}}/{{concept}}/{{method}}/{{seed}}"  # with wildcards, for Snakemake
# no method's name begins with "_"
LATENTS = f"{ARTIFACTS}/{RUNS}/{{backbone}}/{{concept}}/_trajectories/{{seed}}/latents.safetensors"


def run_folder(backbone: str, concept: str, method: str, seed: int, artifacts: Path | str | None = None) -> Path:
    """The folder of one run: its intervention, and under it samples/, attacks/ and metrics/ by study."""
    return Path(artifacts or located(ARTIFACTS)) / RUNS / backbone / concept / method / str(seed)
