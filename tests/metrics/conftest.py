import pytest

from stages.metrics import references
from tests.metrics.told import Told, read_from_files


@pytest.fixture(autouse=True)
def told():
    with read_from_files(Told()) as judge:
        yield judge


@pytest.fixture(autouse=True)
def references_of_its_own(monkeypatch, tmp_path_factory):
    """No test reads what another one kept."""
    monkeypatch.setattr(references, "FOLDER", tmp_path_factory.mktemp("references"))
