"""What training has added to an adapter, as an adapter of its own: put on a model that has the old one on it or merged
into it, it makes it the same as the new one."""

import torch

from llmos.nlui.training.gguf_weights import Weights
from llmos.nlui.training.network import Adapter


def difference(weights: Weights, new: Adapter, old: Adapter) -> Adapter:
    """`new` less `old`, which have the same rank r and alpha: U'D' - UD is (U', -U)(D'; D), of rank 2r."""
    found = Adapter(weights, new.rank + old.rank, new.alpha + old.alpha)  # the scale, alpha / rank, is the same
    before = old.tensors()
    found.load_tensors(
        {
            name: (torch.cat([down, before[name][0]]), torch.cat([up, -before[name][1]], dim=1))
            for name, (down, up) in new.tensors().items()
        }
    )
    return found
