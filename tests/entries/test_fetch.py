"""A published file is taken if it is the published one, and nothing is left of any other."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages import fetch
from stages.params.prompt_rows import source_rows
from stages.params.prompt_sources import BASE, load_source
from tests.store.test_fetching import Server, reply

TEXT = b",prompt,evaluation_seed,evaluation_guidance\n0,a dog on a chair,7,7.5\n1,a dog in the rain ,8,9\n"
SHA = hashlib.sha256(TEXT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DOGS = {
    "what": "prompts of dogs",
    "repository": "someone/dogs",
    "commit": COMMIT,
    "path": "data/my dogs.csv",
    "sha256": SHA,
    "rows": 2,
    "columns": {"prompt": "prompt", "seed": "evaluation_seed", "guidance": "evaluation_guidance"},
    "license": "none found",
}
AT = f"/someone/dogs/{COMMIT}/data/my%20dogs.csv"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    one = Server()
    one.files = {AT: TEXT}
    monkeypatch.setenv(BASE, one.base)
    monkeypatch.chdir(tmp_path)
    write(DOGS)
    yield one
    one.close()


def write(content: dict, name: str = "dogs2") -> None:
    path = Path(f"params/prompts/{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def left(name: str = "dogs2") -> list[str]:
    return sorted(path.name for path in Path("artifacts/sources", name).glob("*"))


def test_a_source_is_fetched_checked_and_read(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert fetch.main(["dogs2"]) == 0
    assert left() == ["my dogs.csv", "source.json"]
    assert json.loads(Path("artifacts/sources/dogs2/source.json").read_text())["sha256"] == SHA
    assert source_rows("dogs2") == [
        {"id": 0, "prompt": "a dog on a chair", "seed": 7, "guidance": 7.5},
        {"id": 1, "prompt": "a dog in the rain ", "seed": 8, "guidance": 9.0},
    ]
    assert "2 prompts of https://github.com/someone/dogs (licence: none found)" in caplog.text
    before = Path("artifacts/sources/dogs2/source.json").stat().st_mtime_ns
    assert fetch.main(["dogs2"]) == 0 and len(server.seen) == 1, "what is there is not fetched again"
    assert Path("artifacts/sources/dogs2/source.json").stat().st_mtime_ns == before


def test_an_altered_file_is_refused_and_nothing_of_it_is_left(server: Server, capsys: pytest.CaptureFixture) -> None:
    server.files[AT] = TEXT.replace(b"rain", b"snow")
    assert fetch.main(["dogs2"]) == 2
    said = capsys.readouterr().err
    assert f"not the published file: sha256 {hashlib.sha256(server.files[AT]).hexdigest()}" in said and SHA in said
    assert said.count("\n") == 1 and left() == []


def test_the_file_that_was_there_stays_if_the_next_is_refused(server: Server) -> None:
    assert fetch.main(["dogs2"]) == 0
    write(DOGS | {"sha256": "0" * 64})
    assert fetch.main(["dogs2"]) == 2
    assert left() == ["my dogs.csv", "source.json"]


def test_a_kept_part_of_another_file_is_fetched_anew(server: Server) -> None:
    part = Path("artifacts/sources/dogs2/.my dogs.csv.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    assert fetch.main(["dogs2"]) == 0
    assert [asked for _, asked in server.seen] == ["bytes=14-", None]
    assert Path("artifacts/sources/dogs2/my dogs.csv").read_bytes() == TEXT


def test_a_file_brought_by_hand_passes_the_same_checks(server: Server, capsys: pytest.CaptureFixture) -> None:
    Path("good.csv").write_bytes(TEXT)
    Path("bad.csv").write_bytes(TEXT + b"2,a dog,9,7.5\n")
    assert fetch.main(["dogs2", "--from", "bad.csv"]) == 2
    assert "not the published file" in capsys.readouterr().err and left() == []
    assert fetch.main(["dogs2", "--from", "absent.csv"]) == 2
    assert fetch.main(["dogs2", "--from", "good.csv"]) == 0
    assert left() == ["my dogs.csv", "source.json"] and not server.seen
    assert Path("good.csv").is_file()


def test_a_file_that_is_gone_says_how_to_bring_it(server: Server, capsys: pytest.CaptureFixture) -> None:
    server.files = {}
    assert fetch.main(["dogs2"]) == 2
    said = capsys.readouterr().err
    assert "no such file any more (404); a copy of yours is taken by: python -m stages.fetch dogs2 --from FILE" in said


def test_an_unknown_sha256_is_told_and_not_believed(server: Server, capsys: pytest.CaptureFixture) -> None:
    write({key: value for key, value in DOGS.items() if key != "sha256"})
    assert fetch.main(["dogs2"]) == 2
    said = capsys.readouterr().err
    assert f"write `sha256: {SHA}` into params/prompts/dogs2.yaml" in said and left() == [".my dogs.csv.part"]
    write(DOGS)
    assert fetch.main(["dogs2"]) == 0 and len(server.seen) == 1, "the checked part is taken as it is"
    assert left() == ["my dogs.csv", "source.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 3}, "expected 3 rows, got 2"),
        ({"columns": DOGS["columns"] | {"width": "sd_image_width"}}, "no column 'sd_image_width'; have: , prompt"),
        ({"columns": {"prompt": "prompt", "seed": "prompt"}}, "row 0: seed: expected a whole number, got 'a dog"),
        ({"columns": {"prompt": "prompt", "part": "evaluation_seed"}, "parts": {"7": 2}}, "expected the parts"),
    ],
)
def test_a_file_that_is_not_what_its_source_says_is_refused(
    server: Server, capsys: pytest.CaptureFixture, change: dict, message: str
) -> None:
    write(DOGS | change)
    assert fetch.main(["dogs2"]) == 2
    assert message in capsys.readouterr().err and left() == []


def test_several_are_fetched_though_one_is_gone(server: Server, capsys: pytest.CaptureFixture) -> None:
    write(DOGS | {"path": "gone.csv"}, "a_gone")
    assert fetch.main(["all"]) == 2
    assert "1 of 2 were not fetched: a_gone" in capsys.readouterr().err
    assert left() == ["my dogs.csv", "source.json"]


def test_a_wrong_name_and_no_name_are_told(server: Server, capsys: pytest.CaptureFixture) -> None:
    assert fetch.main(["dogs3"]) == 2
    assert "no source of prompts 'dogs3'; did you mean dogs2?" in capsys.readouterr().err
    assert fetch.main([]) == 2 and fetch.main(["dogs2", "dogs3", "--from", "x"]) == 2
    assert fetch.main(["--list"]) == 0
    assert "dogs2: 2 rows, prompts of dogs (" in capsys.readouterr().out


GATED = {key: value for key, value in DOGS.items() if key not in ("repository", "commit")} | {
    "hub": "someone/gated",
    "path": "dogs.csv",
    "gated": True,
}


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    write(GATED)
    return server


def head(server: Server, code: int, headers: dict[str, str]) -> None:
    """What the hub answers when it is asked about a file."""
    server.http.RequestHandlerClass.do_HEAD = lambda handler: reply(handler, code, headers=headers)


def test_a_gated_source_names_its_terms_and_the_command(hub: Server, capsys: pytest.CaptureFixture) -> None:
    head(hub, 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
    assert fetch.main(["dogs2"]) == 2
    said = capsys.readouterr().err
    page = f"{hub.base}/datasets/someone/gated"
    assert f"is gated: accept its terms on {page}, then: hf auth login && python -m stages.fetch dogs2" in said
    assert "--from FILE" in said and said.count("\n") == 1 and left() == []


def test_a_gated_source_comes_through_the_hubs_own_client(hub: Server) -> None:
    size = {"Content-Length": str(len(TEXT)), "ETag": '"abc"', "X-Repo-Commit": COMMIT}
    head(hub, 200, size)
    hub.answer = lambda handler, turn: reply(handler, 200, TEXT, size) is None
    assert fetch.main(["dogs2"]) == 0
    assert left() == ["dogs.csv", "source.json"]


def test_a_gated_source_that_is_too_large_or_altered_is_refused(hub: Server, capsys: pytest.CaptureFixture) -> None:
    head(hub, 200, {"Content-Length": str(2**30), "ETag": '"abc"', "X-Repo-Commit": COMMIT})
    assert fetch.main(["dogs2"]) == 2
    assert f"has {2**30} bytes, and it may have {16 * 2**20}" in capsys.readouterr().err and left() == []


def test_a_gated_source_without_a_known_file_is_brought_by_hand(hub: Server, capsys: pytest.CaptureFixture) -> None:
    write({key: value for key, value in GATED.items() if key != "path"})
    assert fetch.main(["dogs2"]) == 2
    assert "the name of its file is not known to us; a copy of yours is taken by" in capsys.readouterr().err
    Path("mine.csv").write_bytes(TEXT)
    assert fetch.main(["dogs2", "--from", "mine.csv"]) == 0
    assert left() == ["prompts.csv", "source.json"] and load_source("dogs2").file == "prompts.csv"
