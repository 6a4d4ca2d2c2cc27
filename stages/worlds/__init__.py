"""Procedural data with ground truth.

| module | holds |
|---|---|
| `shapes`, `signed_distances`, `captions` | captioned pictures and clips of one coloured shape |
| `scenes` | a world of its own: objects and named figures in several styles, pictures, captions and clips |
| `words`, `classes` | the vocabulary and its tokenizer; captions as the classes of a generator without text |
| `table` | the prompt datasets of `data/` |
| `reader` | what the judges of all worlds share |
| `judge`, `train_judge` | the classifier that says which colour and shape a picture shows |
| `autoencoder`, `tokenizer` | the latent space of the diffusion backbones; the bits of the autoregressive one |
"""
