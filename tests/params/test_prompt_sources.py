"""Every source of the project is what is known of the published files, and a wrong file says what is wrong."""

import csv
import os
from pathlib import Path

import pytest
import yaml

from stages.params.prompt_sources import BASE, HOST, Source, address, load_source, source_names
from tests import ROOT

PARAMS = ROOT / "params"
FACTS = Path(os.environ.get("PALIMPSEST_FIXTURES", ROOT.parent / "shared" / "fixtures")).parent / "facts"
NAMED = {  # rows, and how the sha256 begins, of the sets that papers measure on
    **{"nudity142": (142, "0a40f6e6"), "vangogh50": (50, "9d0b141b"), "church50": (50, "4987e201")},
    **{"tench50": (50, "6d5fc098"), "parachute50": (50, "f44fdef6"), "garbage_truck50": (50, "e561240b")},
    **{"violence756": (756, "548c6030"), "illegal727": (727, "2de06908"), "i2p4703": (4703, "6c1821ae")},
    **{"ring79": (79, "2bd9056f"), "ring50_vangogh": (50, "b1cc11de"), "ring95_k16": (95, "2d5beab0")},
    **{"ring95_k38": (95, "a5df3ece"), "ring95_k75": (95, "e972bb08"), "ring285": (285, "")},
    **{"mma1000": (1000, "0ad992fc"), "p4d151": (151, ""), "coco30k": (30000, "87a3f463")},
    **{"coco30k_ear": (30000, "afa3bdcb"), "coco10k": (10000, "785b35c0"), "celebrity1": (2750, "f73cb1b8")},
    **{"celebrity5": (2750, "feef6e0d"), "celebrity10": (2750, "cb1daa03"), "celebrity100": (5000, "a74e6ea2")},
    **{"art100": (5000, "a6fdba81"), "imagenette5000": (5000, "6f82b5a1"), "artists_big": (100, "a17a182d")},
    **{"artists_niche": (100, "200e8c52"), "sixcd_nudity1539": (1539, "df1042ac"), "church84_ear": (84, "c09b978b")},
    **{"vangogh50_ear": (50, "c299f14b"), "coco9969": (9969, "3c4eddc1"), "coco9966": (9966, "86687102")},
}
GIVEN = {
    "what": "prompts",
    "repository": "someone/dogs",
    "commit": "0" * 40,
    "path": "dogs.csv",
    "sha256": "1" * 64,
    "rows": 2,
    "columns": {"prompt": "prompt"},
    "license": "MIT",
}


@pytest.mark.parametrize("name", NAMED)
def test_the_sets_of_the_papers_are_there_by_their_names(name: str) -> None:
    source = load_source(name, PARAMS)
    assert (source.rows, source.sha256[:8]) == NAMED[name]
    assert source.gated == bool(source.hub)


@pytest.mark.parametrize("name", source_names(PARAMS))
def test_a_source_is_one_file_of_one_commit(name: str) -> None:
    source = load_source(name, PARAMS)
    assert "ring_a_bell" not in name
    assert (source.repository and source.commit and source.sha256) or source.gated
    assert source.license and source.columns["prompt"]


@pytest.mark.skipif(not (FACTS / "prompt_files.tsv").is_file(), reason="the list of published files is not here")
def test_what_sources_say_is_what_was_measured_of_the_files() -> None:
    with (FACTS / "prompt_files.tsv").open(encoding="utf-8", newline="") as file:
        facts = {(row["repo"], row["path"]): row for row in csv.DictReader(file, delimiter="\t")}
    known = 0
    for name in source_names(PARAMS):
        source = load_source(name, PARAMS)
        if source.repository:
            fact = facts[source.repository, source.path]
            assert (source.commit, source.sha256) == (fact["commit"], fact["sha256"]), name
            assert source.rows == int(fact["rows"]), name
            columns = fact["columns"].split("|")
            whole = len(fact["columns"]) < 160  # longer ones are cut there
            assert not (whole and not source.header and source.path.endswith(".csv")) or set(
                source.columns.values()
            ) <= set(columns), name
            known += 1
    assert known >= 20


def test_an_address_is_composed_from_repository_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(**GIVEN | {"path": "data/my dogs.csv"})
    monkeypatch.delenv(BASE, raising=False)
    assert address(source) == f"{HOST}/someone/dogs/{'0' * 40}/data/my%20dogs.csv"
    monkeypatch.setenv(BASE, "http://mirror/raw/")
    assert address(source) == f"http://mirror/raw/someone/dogs/{'0' * 40}/data/my%20dogs.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hub": "a/b"}, "one of repository and hub must be given, and not both"),
        ({"commit": ""}, "a repository needs a commit: a branch changes without notice"),
        ({"commit": "main"}, "commit: String should match pattern"),
        ({"path": "../dogs.csv"}, "path: String should match pattern"),
        ({"path": "/dogs.csv"}, "path: String should match pattern"),
        ({"path": "a/../dogs.csv"}, "path: String should match pattern"),
        ({"path": "dogs.parquet"}, "path: String should match pattern"),
        ({"path": ""}, "a repository needs the path"),
        ({"sha256": "abc"}, "sha256: String should match pattern"),
        ({"columns": {"seed": "seed"}}, "columns: prompt is missing"),
        ({"columns": {"prompt": "a", "part": "b"}}, "parts and the column `part` belong together"),
        ({"columns": {"prompt": "a", "part": "b"}, "parts": {"x": 3}}, "parts come to 3 rows, and rows says 2"),
        ({"colums": {}}, "unknown key 'colums'; did you mean columns?"),
        ({"rows": 0}, "rows: Input should be greater than 0, got 0"),
    ],
)
def test_a_wrong_source_says_what_is_wrong(tmp_path: Path, change: dict, message: str) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "dogs.yaml").write_text(yaml.safe_dump(GIVEN | change))
    with pytest.raises(ValueError, match="params/prompts/dogs.yaml") as caught:
        load_source("dogs", tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
