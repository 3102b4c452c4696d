"""Syscalls on standing watches."""

from typing import Literal

from llmos.syscalls.registry import Duration, Line, Risk, Syscall, Target, Text, Threshold, WatchRef, key

Metric = Literal["cpu", "memory", "disk", "gpu", "load", "temperature", "exit", "log"]


class Watches(Syscall, verb="watches", risk=Risk.READ):
    """Standing watches."""


class Watch(Syscall, verb="watch", risk=Risk.CHANGE, inverse="unwatch"):
    """A standing rule, until unwatched; without `then` it notifies.

    Percent used, of the machine or of the target (whose cpu is in percent of one core); for memory also a SIZE; for
    disk, target is a path; `for`: how long it must hold. `exit`: the target ends; `log`: its output matches. `$N` in
    `then` is what that line returned when the watch was set.
    """

    metric: Metric
    above: Threshold | None = None
    below: Threshold | None = None
    match: Text | None = None
    target: Target | None = None
    for_: Duration | None = key(None, alias="for")
    then: Line | None = None


class Unwatch(Syscall, verb="unwatch", risk=Risk.CHANGE, inverse="watch"):
    """Drop watches, by ID, target or metric."""

    watch: WatchRef
