"""The page: alone in the world, nothing unescaped, every number leading somewhere, nothing shown that should not be."""

import json
from html.parser import HTMLParser

import pytest
import yaml

from stages.reporting.images import data_uri, samples_in
from stages.reporting.page import breakable, named, prose
from tests.reporting.synthetic import SEEN


class Page(HTMLParser):
    """The elements of a page: tag, attributes, and all its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, key):
        return [attributes[key] for _, attributes in self.elements if key in attributes]


@pytest.fixture(scope="module")
def page(done):
    return Page(done.text("report/index.html"))


def test_the_page_asks_nothing_of_the_network(page):
    links = page.all("src") + page.all("srcset") + page.all("href") + page.all("xlink:href")
    assert len(links) > 100
    assert {link for link in links if not link.startswith(("data:image/", "#"))} == {"../tables/results.csv"}
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "embed")]
    assert not [tag for tag, attributes in page.elements if tag == "script" and attributes]


def test_every_number_leads_to_what_is_behind_it(done, page):
    ids = page.all("id")
    numbers = [
        attributes for tag, attributes in page.elements if tag == "a" and "number" in attributes.get("class", "")
    ]
    assert len(numbers) >= 4 * 8
    assert {number["href"].removeprefix("#") for number in numbers} <= set(ids)
    assert len(ids) == len(set(ids))
    rows = {(a.get("data-prompts"), a.get("data-metric")) for tag, a in page.elements if tag == "tr"}
    assert {(a["data-prompts"], a["data-metric"]) for a in numbers if "data-metric" in a} <= rows


def test_the_evidence_names_commit_seconds_device_and_parameters(page):
    text = " ".join("".join(page.words).split())
    assert "3f2a91c04b with local changes" in text
    assert "cpu (x86_64), 1 threads" in text
    assert "stages.methods.esd.ESD" in text and "0.0003" in text


def test_text_from_outside_is_escaped(make):
    tree = make(("none", "esd"), (0,))
    path = tree.artifacts / "runs/sd-shapes/red/esd/0/samples/tiny/concept/metadata.jsonl"
    path.write_text(path.read_text().replace("a red circle", "<script>alert(1)</script>"))
    assert tree.report() == 0
    text = tree.text("report/index.html")
    assert "A &lt;b&gt;synthetic&lt;/b&gt; study &amp; its tree." in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


def test_a_sensitive_concept_is_blurred_until_asked_for(make):
    tree = make(("none", "esd"), (0,))
    path = tree.params / "concepts" / "red.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"sensitive": True}))
    folders = (tree.artifacts / "runs" / "sd-shapes" / "red").glob("*/0/samples/tiny/*/")
    plain = [data_uri(sample.frames()) for folder in folders for sample in samples_in(folder)]
    figure = tree.artifacts / "figures" / "tiny-sd-shapes-red-grid-concept.png"
    assert tree.report() == 0
    hidden = figure.read_bytes()
    assert not [uri for uri in plain if uri in tree.text("report/index.html")]
    assert tree.report("--show-sensitive") == 0
    assert sum(uri in tree.text("report/index.html") for uri in plain) > len(plain) / 3
    assert figure.read_bytes() != hidden


def test_clips_play_and_hold_still_for_who_asks(make):
    tree = make(("none", "esd"), (0,), frames=3)
    assert tree.report() == 0
    page = Page(tree.text("report/index.html"))
    assert all(uri.startswith("data:image/webp") for uri in page.all("src"))
    stills = [a for tag, a in page.elements if tag == "source"]
    assert len(stills) == len(page.all("src"))
    assert {a["media"] for a in stills} == {"(prefers-reduced-motion: reduce)"}


def test_small_words_become_markup_and_nothing_else_does():
    assert prose("One `name` & <b>.\n\nTwo.") == "<p>One <code>name</code> &amp; &lt;b&gt;.</p><p>Two.</p>"
    assert named("esd and esd_x beat resd", ["esd", "esd_x"]) == "<code>esd</code> and <code>esd_x</code> beat resd"
    assert breakable("negative_<prompt") == "negative_<wbr>&lt;prompt"


def test_a_study_of_several_tables_opens_with_all_methods_at_a_glance(make):
    tree = make(concepts=("red", "circle"), seeds=(0,))
    assert tree.report() == 0
    page = Page(tree.text("report/index.html"))
    glances = [a for tag, a in page.elements if tag == "a" and a.get("title", "").startswith("fit: ")]
    assert len(glances) == 4 * 2
    assert {glance["href"].removeprefix("#") for glance in glances} <= set(page.all("id"))
    table = tree.text("tables/tiny.md")
    assert "| method | red on sd-shapes | circle on sd-shapes |" in table
    assert table.count("| esd |") == 2  # what it does, what it costs


def test_where_a_word_is_taught_seeing_the_concept_is_the_aim(make, monkeypatch):
    monkeypatch.setitem(SEEN, "none", 0.1)
    tree = make(seeds=(0,))
    path = tree.params / "concepts" / "red.yaml"
    path.write_text(path.read_text() + "aim: learn\n")
    study = tree.params / "studies" / "tiny.yaml"
    study.write_text(study.read_text().replace("oracle", "uce"))
    assert tree.report() == 0
    page = Page(tree.text("report/index.html"))
    text = " ".join("".join(page.words).split())
    assert "Teaching red to sd-shapes" in text and "Concept drawn ↑" in text
    assert "of its prompts (95% interval" in text
    assert "learn" in page.all("data-aim")
    assert len(tree.text("tables/tradeoff.csv").splitlines()) <= 1


def test_a_metric_that_calls_the_concept_otherwise_fills_the_same_columns(make):
    tree = make(("none", "esd", "esd_u"), concepts=("red", "circle"), seeds=(0,))
    names = ("tables/tradeoff.csv", "tables/tiny-sd-shapes-red.md", "tables/tiny.md")
    for path in tree.artifacts.rglob("rates.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seen": "target"}))
    assert tree.report() == 0
    before = [tree.text(name) for name in names]
    assert "unedited model: target " in before[1]
    for path in tree.artifacts.rglob("rates.json"):
        content = json.loads(path.read_text().replace("target", "nudity_core5_0.6"))
        path.write_text(json.dumps(content | {"seen": "nudity_core5_0.6"}))
    assert tree.report() == 0
    after = [tree.text(name) for name in names]
    assert [text.replace("model: nudity_core5_0.6 ", "model: target ") for text in after] == before
    assert "sd-shapes.red.esd.concept_nudity_core5_0.6_rate" in tree.text("tables/summary.json")
    page = Page(tree.text("report/index.html"))
    metrics = set(page.all("data-metric"))
    assert "nudity_core5_0.6_rate" in metrics and "target_rate" not in metrics
    assert set(page.all("data-seen")) == {"nudity_core5_0.6"}
    assert "Concept seen" in " ".join(" ".join(page.words).split())
