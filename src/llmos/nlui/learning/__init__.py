"""Learning from the user: what a person corrects becomes lessons, the lessons an adapter, and that one is put to use
when it is better. Only `run` and what it calls needs the extra `train`."""

from llmos.nlui.learning.adoption import Adopted, adopted

__all__ = ["Adopted", "adopted"]
