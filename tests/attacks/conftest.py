"""The tiny backbone of the core's tests."""

from tests.core.conftest import backbone, concept

__all__ = ["backbone", "concept"]
