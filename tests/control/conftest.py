"""The tiny backbone of the core's tests, and a picture to learn from."""

from tests.core.conftest import backbone, concept

__all__ = ["backbone", "concept"]
