"""Measurements of samples.

A metric turns samples into features, features into statistics, and the statistics of an edited and of the unedited
backbone into values with intervals (`base`). Each metric of the pipeline is a dataclass that a file of params/metrics/
names. Papers' rules for numbers that were stored elsewhere are in `stored`; `kid.kid`, `detectors.instances` and
`clips.verdicts` are such rules too, and stand beside the code that they share.
"""
