"""Which prompts of a circuit breaker's file break and which stay, in every shape that such files have."""

import json

import pytest

from stages.documented.breaker_data import BreakerData, read_breaker_data
from stages.params.concept import Concept

UNSAFE, SAFE = [f"a bad {i}" for i in range(20)], [f"an animal {i}" for i in range(20)]


def written(folder, content, name="a.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("key", ["prompt", "original_prompt"])
@pytest.mark.parametrize("lists", [("dogs_prompts", "dogs_sanitized_prompts"), ("dogs_prompts",)])
def test_rows_of_both_texts_break_the_unsafe_one_and_keep_its_twin(tmp_path, key, lists):
    rows = [{"sanitized_prompt": safe, key: unsafe} for unsafe, safe in zip(UNSAFE, SAFE, strict=True)]
    data = read_breaker_data(written(tmp_path, dict.fromkeys(lists, rows)))
    held = [9, 19]
    assert data.breaker == tuple(text for i, text in enumerate(UNSAFE) if i not in held)
    assert data.twins == data.retain == tuple(text for i, text in enumerate(SAFE) if i not in held)
    assert data.unseen == ("a bad 9", "a bad 19") and data.validation == ("an animal 9", "an animal 19")


def test_rows_of_both_texts_in_one_list_alone_keep_the_sides(tmp_path):
    rows = [{"original_prompt": unsafe, "sanitized_prompt": safe} for unsafe, safe in zip(UNSAFE, SAFE, strict=True)]
    content = {"x_prompts": [{"prompt": text} for text in UNSAFE], "x_sanitized_prompts": rows}
    assert set(read_breaker_data(written(tmp_path, content)).breaker) < set(UNSAFE)
    content = {"x_prompts": [*rows, "a further one"], "x_sanitized_prompts": [{"prompt": "kept"}]}
    data = read_breaker_data(written(tmp_path, content))
    assert not data.twins and set(data.retain) | set(data.validation) == {*SAFE, "kept"}
    assert {*data.breaker, *data.unseen} == {*UNSAFE, "a further one"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x_prompts": ["a", "b"], "x_sanitized_prompts": ["c", "a"]}, "'a' stands on both sides"),
        ({"x_prompts": ["a", "b "], "x_sanitized_prompts": ["b", "c"]}, "'b' stands on both sides"),
        ({"x_prompts": ["a", " "], "x_sanitized_prompts": ["c"]}, "x_prompts: row 2: a prompt is empty"),
        (
            {"x_prompts": ["a"], "x_sanitized_prompts": [{"prompt": ""}]},
            "x_sanitized_prompts: row 1: a prompt is empty",
        ),
        ({"x_prompts": [{"prompt": "a", "sanitized_prompt": ""}]}, "x_prompts: row 1: a prompt is empty"),
        ({"x_prompts": [{"prompt": "a", "sanitized_prompt": "a"}]}, "'a' stands on both sides"),
        ({"x_prompts": [{"prompt": "a", "sanitized_prompt": 0}]}, "x_prompts: row 1: expected texts"),
        (
            {"x_prompts": [{"sanitized_prompt": "a"}]},
            "x_prompts: row 1: expected texts or objects with one of prompt, ",
        ),
        (
            {"unsafe": ["a"], "safe": ["b"]},
            "'<category>_prompts' and '<category>_sanitized_prompts'; have: unsafe, safe",
        ),
        ({}, "expected '<category>_prompts' and '<category>_sanitized_prompts'; have: nothing"),
        ({"x_prompts": {"texts": ["a"]}}, "x_prompts: expected a list of prompts"),
    ],
)
def test_a_file_of_mixed_up_sides_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(ValueError) as error:
        read_breaker_data(written(tmp_path, content))
    said = str(error.value)
    assert message in said and "a.json: " in said and "\n" not in said


def test_tables_are_read_whatever_their_form(tmp_path):
    lines = [f"{i};{unsafe};{safe};0.9" for i, (unsafe, safe) in enumerate(zip(UNSAFE, SAFE, strict=True))]
    table = "\ufeff;sensitive prompt;normal prompt;toxicity\r\n" + "\r\n".join(lines)
    data = read_breaker_data(written(tmp_path, table, "a.csv"))
    rows = "\n".join(json.dumps({"prompt": a, "neutral": b}) for a, b in zip(UNSAFE, SAFE, strict=True))
    assert data == read_breaker_data(written(tmp_path, rows, "a.jsonl"))
    assert data.breaker[0] == UNSAFE[0] and data.twins[0] == SAFE[0]
    with pytest.raises(ValueError, match=r"a\.csv: .*'b' stands on both sides"):
        read_breaker_data(written(tmp_path, "prompt,normal prompt\na,b\nb,c\n", "a.csv"))
    with pytest.raises(ValueError, match="column 'safe' holds flags or scores"):
        read_breaker_data(written(tmp_path, "prompt,safe\na dog,0\na cat,1\n", "a.csv"))


def test_a_concepts_own_prompts_may_not_stand_on_both_sides():
    with pytest.raises(ValueError, match="'a dog' stands on both sides"):
        BreakerData.of(Concept("dog", ("a dog",), ("a pet",), ("a dog", "a car")))
