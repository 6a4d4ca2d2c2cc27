"""What only some families can do is asked for by name."""

import pytest

from stages.backbones.core.capabilities import Bits, Diffuses, Learns, Walks, needs
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make as make_infinity


def test_diffusion_walks_and_infinity_has_bits():
    unet, infinity = FAMILIES["unet"].make(), make_infinity()
    assert needs(unet, Walks, "") is unet and needs(infinity, Bits, "") is infinity
    assert all(isinstance(backbone, Learns) for backbone in (unet, infinity))
    with pytest.raises(ValueError, match="^tiny predicts no bits; choose an Infinity backbone$"):
        needs(unet, Bits, "choose an Infinity backbone")
    for capability in (Walks, Diffuses):
        with pytest.raises(ValueError, match=f"^{infinity.name} has no .*; choose states: frozen$"):
            needs(infinity, capability, "choose states: frozen")
