"""Procedural data with ground truth.

`shapes.Shapes` draws captioned pictures and clips; `words` has their vocabulary and tokenizer, `table` their prompt
datasets; `judge` trains a classifier that tells what a picture shows, `autoencoder` the latent space of the backbones,
`tokenizer` the bits of those that are autoregressive.
"""
