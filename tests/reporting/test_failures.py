"""A part of the report that fails costs itself, and prompts of any kind are drawn."""

import json
import unicodedata

import pytest
from PIL import ImageFont

from stages.reporting import plots, sections
from stages.reporting.attempts import Attempts
from stages.reporting.grids import FONT, TEXT_LINES, wrapped

TABLES = ("results.csv", "tradeoff.csv", "summary.json", "tiny.md", "tiny-sd-shapes-red.md")
PROMPTS = {
    "line break": "a red\ncircle\r\n on a table",
    "next line": "a red\u0085circle\u2028and\u2029more",
    "control": "a red\x00 circle\x1b",
    "right to left": "دائرة حمراء على طاولة",
    "no spaces": "红色的圆圈" * 40,
    "emoji": "a 🔴 circle 👩‍🎨",
    "combining": "a re\u0301d ci\u0323rcle",
    "tag": "<script>alert(1)</script>",
    "long word": "x" * 3000,
    "many words": "a red circle and " * 150,
    "empty": "",
}


def prompted(tree, prompt: str) -> None:
    """Gives every sample of a study one prompt."""
    for path in tree.artifacts.rglob("metadata.jsonl"):
        rows = [json.loads(line) | {"prompt": prompt} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_a_prompt_of_any_kind_fits_its_place_in_a_grid(prompt):
    font = ImageFont.truetype(FONT, 13)
    lines = wrapped(prompt, font, 172, TEXT_LINES)
    assert 1 <= len(lines) <= TEXT_LINES
    assert all(font.getlength(line) <= 186 for line in lines)  # an ellipsis wider at most
    letters = [character for character in prompt if unicodedata.category(character) not in ("Cc", "Zl", "Zp", "Zs")]
    if len(letters) < 40:
        assert [character for line in lines for character in line if character != " "] == letters


def test_a_study_with_line_breaks_and_other_scripts_is_reported_whole(make, caplog):
    tree = make(("none", "esd"), (0,))
    prompted(tree, "\n".join(PROMPTS.values()))
    assert tree.report() == 0
    assert "could not be drawn" not in caplog.text
    assert (tree.artifacts / "figures/tiny-sd-shapes-red-grid-concept.png").is_file()
    text = tree.text("report/index.html")
    assert "<script>alert" not in text and "دائرة" in text


def test_a_figure_that_fails_costs_itself_and_is_named_in_the_log_and_on_the_page(make, monkeypatch, caplog):
    tree = make(("none", "esd"), (0,))
    assert tree.report() == 0
    before = {name: tree.text(f"tables/{name}") for name in TABLES}

    def broken(*given):
        raise RuntimeError("raqm_layout() failed.\nfor no reason")

    monkeypatch.setattr(plots, "tradeoff_figure", broken)
    monkeypatch.setattr(sections, "tradeoff_figure", broken)
    caplog.clear()
    assert tree.report() == 0
    assert {name: tree.text(f"tables/{name}") for name in TABLES} == before
    names = {path.name for path in (tree.artifacts / "figures").iterdir()}
    assert "tiny-sd-shapes-red-tradeoff.png" not in names and "tiny-sd-shapes-red-loss.png" in names
    lines = [record.getMessage() for record in caplog.records if "could not be drawn" in record.getMessage()]
    assert len(lines) == 2 and all("\n" not in line for line in lines)
    text = " ".join(tree.text("report/index.html").split())
    assert "tiny-sd-shapes-red-tradeoff.png: raqm_layout() failed. for no reason" in text
    assert "while the numbers are complete" in text and "Asked for the concept" in text


def test_an_image_that_cannot_be_read_costs_the_parts_that_show_it(make, caplog):
    tree = make(("none", "esd"), (0,))
    for path in (tree.artifacts / "runs/sd-shapes/red/esd/0/samples/tiny/concept").glob("*.png"):
        path.write_bytes(b"not a picture")
    assert tree.report() == 0
    text = tree.text("report/index.html")
    assert "images of esd, concept prompts" in text and "grid of concept prompts" in text
    assert "Asked for something else" in text and "Asked for the concept" not in text
    assert (
        "grid-concept.png" in caplog.text and (tree.artifacts / "figures/tiny-sd-shapes-red-grid-retain.png").is_file()
    )


def test_an_attempt_gives_the_part_or_remembers_why_not():
    attempts = Attempts()
    assert attempts("sum", lambda: 1 + 1, place="here") == 2
    assert attempts("quotient", lambda: 1 / 0, place="here") is None
    assert attempts.failed("here") == {"quotient": "division by zero"} and attempts.failed("there") == {}
    with pytest.raises(KeyboardInterrupt):
        attempts("stopped", lambda: (_ for _ in ()).throw(KeyboardInterrupt), place="here")
