"""The world of scenes: 64 x 64 pictures and clips of coloured objects and named figures in several styles.

| module | holds |
|---|---|
| `labels`, `palette` | the kinds of concept and their names; colours |
| `objects`, `figures`, `looks`, `render` | signed distances, faces made of parts, textures and styles, the pictures |
| `combinations`, `world` | which labels are drawn together; `Scenes`, which draws them |
| `words`, `grammar`, `classes` | the vocabulary and its tokenizer; captions; classes for generators without text |
| `table`, `concepts` | the prompt datasets of `data/`; the files of `params/concepts/` |
| `judge`, `train_judge` | the classifier that says what a picture shows |
| `sheet` | `python -m stages.worlds.scenes.sheet --out FILE.png`: every kind, to look at |
"""

from stages.worlds.scenes.world import Batch, Scenes

__all__ = ["Batch", "Scenes"]
