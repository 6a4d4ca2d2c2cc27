"""What is measured on samples.

A metric turns samples into features, features into statistics and the statistics of an edited and of the unedited
backbone into values with intervals (`base`). Each metric of the pipeline is a dataclass that a file of params/metrics/
names; the rest (`intervals`, `i2p`, `unlearncanvas`, `harmonic`) are functions of numbers that were stored.
"""
