"""A fit that stops on the way and is begun again."""

import pytest

from stages.store.record import recording


def interrupted(method, backbone, concept, folder, *, share):
    """The tensors of a fit that stopped after that share of the network's calls and was taken up again.

    The second part may call the network about as often as the first left to do, not as often as a whole fit.
    """
    whole = calls(method, backbone, concept)
    with pytest.raises(KeyboardInterrupt), recording(folder, "train", params={}) as record:
        record.pause = 0  # every step is kept
        calls(method, backbone, concept, stop=round(share * whole))
    tensors = {}
    with recording(folder, "train", params={}):
        rest = calls(method, backbone, concept, into=tensors)
    assert rest < whole
    return tensors


def calls(method, backbone, concept, *, stop=None, into=None):
    """How often a fit calls the network; KeyboardInterrupt at the call of that number."""
    count = 0

    def counted(*_):
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt

    handle = backbone.net.register_forward_pre_hook(counted)
    try:
        fitted = method.fit(backbone, concept, seed=0)
    finally:
        handle.remove()
    if into is not None:
        into.update(fitted.tensors())
    return count
