"""Relative paths of a call, made absolute: they mean the folder that the person is in, and llmosd is in another."""

import os
from typing import TypeVar

from llmos.syscalls import Kind, Syscall
from llmos.syscalls.job import Run

_Call = TypeVar("_Call", bound=Syscall)


def anchored(call: _Call) -> _Call:
    """The call with absolute paths; what runs without a `cwd` runs in the folder of the person."""
    paths = {
        argument.name: os.path.abspath(call.value(argument)) for argument in call.given() if argument.kind is Kind.PATH
    }
    if isinstance(call, Run):
        paths.setdefault("cwd", os.getcwd())
    return call.build({**call.as_json()["args"], **paths}) if paths else call
