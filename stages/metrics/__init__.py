"""What is measured on samples.

A metric turns samples into features, features into statistics and the statistics of an edited and of the unedited
backbone into values with intervals (`base`). Each metric of the pipeline is a dataclass that a file of params/metrics/
names. Papers' rules that no params file uses (`i2p`, `unlearncanvas`, `harmonic`; `kid.kid`, `detectors.instances`
and `detectors.clip_rates`) are a library for stored numbers, checked by tests/parity.
"""
