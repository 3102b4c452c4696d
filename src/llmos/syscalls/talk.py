"""The two answers of the model that run nothing: a question back, and a refusal."""

from llmos.plan.risk import Risk
from llmos.syscalls.registry import Sentence, Syscall


class Ask(Syscall, verb="ask", risk=Risk.TALK):
    """One short question, where the request leaves open what must be known."""

    question: Sentence


class Refuse(Syscall, verb="refuse", risk=Risk.TALK):
    """Not something this machine's processes can answer."""

    reason: Sentence
