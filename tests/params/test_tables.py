"""Prompt tables as people have them: separators, encodings, line ends, index columns, flags and scores."""

import json
import logging

import pytest

from stages.params.datasets import labels, read_prompts, select
from stages.params.pairs import read_pairs
from stages.params.tables import read_rows

HEADER = "id,set,prompt,class,without_class,seed\n"
ROWS = [
    "0,full,a dog,dog,an animal,0",
    '1,full,"a dog, twice",dog,"an animal, twice",100',
    "2,full,a cat,cat,a pet,7.0",
]
TABLE = HEADER + "\n".join(ROWS) + "\n"


def written(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def swapped(separator):
    """The table with another separator, cells that hold it in quotes."""
    return "\n".join(
        separator.join(f'"{cell}"' if separator in cell else cell for cell in line)
        for line in ([HEADER.strip().split(",")] + [list(row) for row in plain_rows()])
    )


def plain_rows():
    yield ("0", "full", "a dog", "dog", "an animal", "0")
    yield ("1", "full", "a dog, twice", "dog", "an animal, twice", "100")
    yield ("2", "full", "a cat", "cat", "a pet", "7.0")


FORMS = {
    "plain": TABLE,
    "bom": "\ufeff" + TABLE,
    "windows": TABLE.replace("\n", "\r\n"),
    "old mac": TABLE.replace("\n", "\r"),
    "semicolons": swapped(";"),
    "tabs": swapped("\t"),
    "bars": swapped("|"),
    "excel's hint": "sep=;\r\n" + swapped(";"),
    "empty rows": TABLE.replace("dog,an animal,0\n", "dog,an animal,0\n,,,,,\n") + "\n,,,,,\n  ,,,,,\n",
    "index column": "\n".join(f"{'' if i == 0 else i - 1},{line}" for i, line in enumerate(TABLE.splitlines())),
    "pandas twice": "\n".join(
        f"{'Unnamed: 0' if i == 0 else i - 1},{line}" for i, line in enumerate(TABLE.splitlines())
    ),
    "blanks": TABLE.replace(",dog,", ", dog ,").replace("full", " full "),
    "trailing commas": "\n".join(f"{line}," for line in TABLE.splitlines()),
    "no line end": TABLE.rstrip(),
    "capitals": TABLE.replace("id,set,prompt", "ID,Set,Prompt").replace(",seed", ",Seed"),
    "case numbers": TABLE.replace("id,set,prompt", "case_number,set,adv_prompt").replace(",seed", ",evaluation_seed"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_table(tmp_path, form):
    expected = read_prompts(written(tmp_path, TABLE, "expected.csv"))
    table = read_prompts(written(tmp_path, FORMS[form]))
    assert sorted(table.columns) == sorted(expected.columns)
    assert table[expected.columns].equals(expected)
    assert expected["seed"].tolist() == [0, 100, 7] and labels(table) == ["class"]
    assert select(table, {"class": "dog"}, "concept")["prompt"].tolist() == ["a dog", "a dog, twice"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl"])
def test_encodings_and_scripts(tmp_path, encoding, suffix):
    prompt = "ein\r\nHund\u0085 \u2028 כלב كلب 犬 🐕 e\u0301 <script>"
    row = {"id": 0, "set": "full", "prompt": prompt, "class": "dog", "without_class": "x", "seed": 3}
    text = {
        "csv": HEADER + f'0,full,"{prompt}",dog,x,3\n',
        "tsv": HEADER.replace(",", "\t") + f'0\tfull\t"{prompt}"\tdog\tx\t3\n',
        "json": json.dumps([row], ensure_ascii=False),
        "jsonl": json.dumps(row, ensure_ascii=False) + "\n\n",
    }[suffix]
    table = read_prompts(written(tmp_path, text, f"t.{suffix}", encoding))
    assert table["prompt"].tolist() == [prompt] and table["seed"].tolist() == [3]


def test_lines_of_json_may_be_of_numbers_and_lack_what_is_not_used(tmp_path):
    rows = [
        {"id": 0, "set": "full", "prompt": "a dog", "class": "dog", "without_class": "x", "seed": "7", "guidance": 7.5},
        {"id": 1.0, "set": "full", "prompt": "a cat", "class": None, "without_class": None, "seed": 3.0},
    ]
    table = read_prompts(written(tmp_path, "\r".join(map(json.dumps, rows)), "t.jsonl"))
    assert table["class"].tolist() == ["dog", ""] and table["seed"].tolist() == [7, 3]
    assert table["guidance"].tolist() == [7.5, ""]


def test_guidance_and_size_of_a_row_are_read_under_their_published_names(tmp_path):
    lines = TABLE.splitlines()
    head = f"{lines[0]},evaluation_guidance,sd_image_width,sd_image_height"
    cells = ["7.5,512,768", ",,", "9,512.0,512"] + [",,"] * (len(lines) - 4)
    path = written(
        tmp_path, "\n".join([head] + [f"{line},{more}" for line, more in zip(lines[1:], cells, strict=True)])
    )
    table = read_prompts(path)
    assert table["guidance"].tolist()[:3] == [7.5, "", 9.0]
    assert [(row["width"], row["height"]) for _, row in table.iloc[[0, 2]].iterrows()] == [(512, 768), (512, 512)]
    bad = path.read_text().replace("7.5,512,768", "7.5,512.5,768")
    with pytest.raises(ValueError, match="row 1: column 'width': expected type integer, got '512.5'"):
        read_prompts(written(tmp_path, bad, "bad.csv"))


def test_columns_that_are_not_used_are_named_once(tmp_path, caplog):
    lines = TABLE.splitlines()
    text = "\n".join([f"{lines[0]},prompt_toxicity,sd_model"] + [f"{line},7.5,512" for line in lines[1:]])
    path = written(tmp_path, text)
    with caplog.at_level(logging.INFO):
        read_prompts(path)
        read_prompts(path)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{path}: columns that are not used: prompt_toxicity, sd_model"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace(",7.0", ",7.5"), "row 3: column 'seed': expected type integer, got '7.5'"),
        (TABLE.replace(",7.0", ",-1"), "row 3: column 'seed': expected minimum 0, got -1"),
        (TABLE.replace(",7.0", f",{2**32}"), "row 3: column 'seed': expected maximum 4294967295, got 4294967296"),
        (TABLE.replace(",7.0", f",{2**64}"), "row 3: column 'seed': expected maximum"),
        (TABLE.replace("a cat", "   "), "row 3: column 'prompt': expected minLength 1"),
        (TABLE.replace("set,", "prompt,"), "column 'prompt' stands twice"),
        (TABLE.replace("a cat,cat", "a cat, cat,x"), "row 3: expected 6 columns, got 7"),
        (swapped(";").replace("a cat;cat", "a cat"), "row 3: expected 6 columns, got 5 (the separator is a semicolon)"),
        (TABLE.replace("a cat", '"a cat'), "not a CSV file: unexpected end of data"),
        (b"\x1f\x8b\x08\0rest", "not a table but gzip; unpack it first"),
        (b"PK\x03\x04rest", "a zip archive or a workbook"),
        (b"PAR1rest", "Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (TABLE.replace("a cat", "une fêlure").encode("latin-1"), "save it as UTF-8"),
        ("", "no prompts in it"),
        ("\ufeff", "no prompts in it"),
        (HEADER + ",,,,,\n", "no prompts in it"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        read_prompts(written(tmp_path, text))
    said = str(error.value)
    assert message in said and "t.csv" in said and "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 0}\n{', "line 2: not JSON"),
        ('{"id": 0}\n[1]\n', "line 2: expected an object, got list"),
        ('{"id": 0, "set": "full", "prompt": "\\ud83d", "seed": 0}', "row 1: column 'prompt': half a character"),
        ("", "no prompts in it"),
    ],
)
def test_wrong_lines_of_json_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(written(tmp_path, text, "t.jsonl"))


def test_a_table_that_is_not_there_is_named(tmp_path):
    for read in (read_prompts, read_pairs, read_rows):
        with pytest.raises(FileNotFoundError, match="nowhere.csv is missing"):
            read(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("prompt,normal prompt", 0),
        ("sensitive prompt,normal prompt", 0),
        ("Sensitive_Prompt,Normal_Prompt", 0),
        ("adv_prompt,safe prompt", 0),
        ("caption,neutral prompt", 0),
        ("text,sanitized_prompt", 0),
        ("unsafe,safe", 0),
        ("neutral,unsafe prompt", 1),
    ],
)
def test_pairs_under_the_names_that_tables_have(tmp_path, header, first):
    pairs = read_pairs(written(tmp_path, f"{header}\na dog,an animal\n"))
    assert pairs == [("a dog", "an animal") if first == 0 else ("an animal", "a dog")]


FLAGGED = [
    ("prompt,safe", ["a dog in a park,0", "a cat,1"], "safe"),
    ("case_number,prompt,neutral", ["0,a dog in a park,0.91", "1,a cat,0.2"], "neutral"),
    ("prompt,safe", ["a dog,True", "a cat,False"], "safe"),
    ("prompt,safe", ["a dog,safe", "a cat,unsafe"], "safe"),
    ("prompt;neutral", ["a dog;0,91", "a cat;12 %"], "neutral"),
    ("unsafe,safe prompt", ["1,a pet", "0,a car"], "unsafe"),
    ("prompt,safe", ["a dog,an animal", "a cat,1e-3"], "safe"),
]


@pytest.mark.parametrize(("header", "rows", "column"), FLAGGED)
def test_flags_and_scores_are_no_twins(tmp_path, header, rows, column):
    with pytest.raises(ValueError, match=rf"t\.csv: .*column '{column}'"):
        read_pairs(written(tmp_path, "\n".join([header, *rows])))


def test_a_long_name_is_preferred_to_flags(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        pairs = read_pairs(written(tmp_path, "prompt,safe,unsafe,normal_prompt\na dog,0,1,an animal\n"))
    assert pairs == [("a dog", "an animal")]
    assert "columns that are not used: safe, unsafe" in caplog.text
    path = written(tmp_path, "prompt,neutral,safe prompt\na dog,a pet,an animal\n", "u.csv")
    assert read_pairs(path) == [("a dog", "an animal")]


def test_pairs_with_an_index_a_mark_and_line_breaks(tmp_path):
    text = '\ufeff,prompt,normal prompt\r\n0,"a dog\nin a park","an animal\nin a park"\r\n,,\r\n'
    assert read_pairs(written(tmp_path, text)) == [("a dog\nin a park", "an animal\nin a park")]
    with pytest.raises(ValueError, match=r"no column 'prompt' or .*; have: text, label"):
        read_pairs(written(tmp_path, "text,label\na,b\n", "v.csv"))
    with pytest.raises(ValueError, match=r"no column 'normal prompt' or .*; have: prompt, label"):
        read_pairs(written(tmp_path, "prompt,label\na,b\n", "v.csv"))
