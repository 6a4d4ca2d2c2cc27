"""Parts of a report that cost only themselves when they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

Part = TypeVar("Part")
log = logging.getLogger(__name__)


class Attempts:
    """Makes parts one by one and remembers those that failed.

        attempts = Attempts()
        chart = attempts("trade-off chart", lambda: draw(numbers), place="sd-shapes-red")
        attempts.failed("sd-shapes-red")

    The last line is {"trade-off chart": "no space left"} if `draw` raised that, else {}.
    """

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str], str] = {}  # (place, name of the part) -> reason

    def __call__(self, name: str, make: Callable[[], Part], *, place: str) -> Part | None:
        """The part, or None with one line in the log if `make` raised any error."""
        try:
            return make()
        except Exception as error:  # of any drawing library: numbers must not be lost for the sake of a picture
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s, %s: could not be drawn: %s", place, name, reason)
            self._failed[place, name] = reason
            return None

    def failed(self, place: str) -> dict[str, str]:
        """The names of the parts of a place that failed, each with the reason."""
        return {name: reason for (at, name), reason in self._failed.items() if at == place}
