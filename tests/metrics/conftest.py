import pytest

from stages.metrics import drift, frechet, judged, rates
from tests.metrics.told import Told


@pytest.fixture(autouse=True)
def told(monkeypatch):
    judge = Told()
    for module in (drift, frechet, judged, rates):
        monkeypatch.setattr(module, "load_judge", lambda folder: judge)
    return judge
