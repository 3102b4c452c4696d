"""How well and how fast a model understands: the cases, the measuring, the figures and their tables."""
