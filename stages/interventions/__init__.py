"""What a method's fit returns: a few tensors, a spec of primitives, and one verb, attach."""

from stages.interventions.base import Identity, Intervention, Stack, load, save

__all__ = ["Identity", "Intervention", "Stack", "load", "save"]
