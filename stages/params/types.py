"""Constrained types of hyperparameters, so that a bad value is refused with its name before any work starts."""

from typing import Annotated

from annotated_types import Ge, Gt, Interval

Count = Annotated[int, Gt(0)]
Natural = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
