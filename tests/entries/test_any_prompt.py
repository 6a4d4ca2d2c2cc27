"""Prompts of any script, with line breaks and signs of markup, pass from the table to the metadata unchanged."""

import json
from pathlib import Path

import yaml

from stages import precompute, prepare, sample, train
from stages.store.pictures import read_metadata

PROMPTS = [
    "a red\ncircle",
    "a red circle\r\nof two lines",
    "a red\u0085circle \u2028 here",
    "دائرة حمراء",
    "ein roter Kreis 🔴 e\u0301",
    "一个红色的圆",
    "<script>alert('red')</script>, \"red\"",
]
RUN = ["--backbone", "tiny", "--concept", "red"]


def test_odd_prompts_go_through_every_stage(project):
    header = "id,set,prompt,colour,without_colour,seed\n"
    quoted = [prompt.replace('"', '""') for prompt in PROMPTS]
    rows = [f'{i},full,"{prompt}",red,x,{100 * i}\n' for i, prompt in enumerate(quoted)]
    Path("odd.csv").write_text(header + "".join(rows), encoding="utf-8", newline="")
    concept = {"dataset": "odd.csv", "target": {"colour": "red"}, "retain": ["a blue\n\u0085 circle"]}
    concept |= {"prompts": PROMPTS, "neutral": ["a\nshape 圆"]}
    Path("params/concepts/red.yaml").write_text(yaml.safe_dump(concept))
    Path("params/studies").mkdir()
    Path("params/studies/odd.yaml").write_text(f"prompts: {{concept: {len(PROMPTS)}, neutral: 0, alone: 0}}\n")
    assert prepare.main(["--study", "odd", "--concept", "red", "--out", "sets.json"]) == 0
    assert precompute.main([*RUN, "--seed", "0", "--out", "latents.safetensors"]) == 0
    run = [*RUN, "--method", "esd", "--seed", "0"]
    assert train.main([*run, "--latents", "latents.safetensors", "--out", "run"]) == 0
    assert sample.main([*run, "--run", "run", "--prompts", "sets.json", "--out", "out"]) == 0
    lines = read_metadata(Path("out/concept"))
    assert [line["prompt"] for line in lines] == PROMPTS
    assert json.loads(Path("out/record-sample.json").read_text())["notes"]["images"] == len(PROMPTS)
