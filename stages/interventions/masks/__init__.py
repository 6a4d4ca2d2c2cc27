"""Masks on neurons and heads: places, zeros and ones, folding."""
