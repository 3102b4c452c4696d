"""The OpenRPC document: well formed, complete, and true to what the registry accepts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from llmos.errors import BY_CODE
from llmos.kernel.openrpc import METHODS, AskParams, PlanCheckParams, discover
from llmos.syscalls import SYSCALLS

DOCUMENT = discover()
BY_NAME = {method["name"]: method for method in DOCUMENT["methods"]}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for part in node.values():
            yield from references(part)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def test_every_method_stands_once() -> None:
    assert list(BY_NAME) == [*METHODS, *(verb for verb in SYSCALLS if verb not in ("ask", "refuse"))]
    assert len(DOCUMENT["methods"]) == len(BY_NAME)


def test_it_is_json_and_every_reference_leads_somewhere() -> None:
    document = json.loads(json.dumps(DOCUMENT))
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


@pytest.mark.parametrize("method", DOCUMENT["methods"], ids=list(BY_NAME))
def test_a_method_has_the_form_of_openrpc(method: dict[str, Any]) -> None:
    assert method["paramStructure"] == "by-name" and method["summary"] and method["result"]["schema"]
    required = [param["required"] for param in method["params"]]
    assert required == sorted(required, reverse=True)
    names = [param["name"] for param in method["params"]]
    assert len(set(names)) == len(names)


def test_the_parameters_of_a_verb_are_those_of_the_registry() -> None:
    for verb, syscall in SYSCALLS.items():
        if verb in ("ask", "refuse"):
            continue
        params = {param["name"]: param for param in BY_NAME[verb]["params"]}
        assert params.keys() == {
            *syscall.arguments,
            *syscall.api_arguments,
            *("allow", "confirm", "dry_run"),
        }
        for argument in syscall.arguments.values():
            assert params[argument.name]["required"] == argument.required
    assert next(p for p in BY_NAME["port"]["params"] if p["name"] == "port")["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
    }
    assert BY_NAME["kill"]["x-risk"] == "destroy" and BY_NAME["ps"]["x-risk"] == "read"


def test_every_error_is_listed() -> None:
    assert DOCUMENT["components"]["errors"].keys() == BY_CODE.keys()
    assert len(BY_NAME["jobs"]["errors"]) == len(BY_CODE)


def test_the_models_check_what_the_document_says() -> None:
    assert PlanCheckParams(plan=["jobs", {"call": "kill", "args": {"target": "web"}}])
    for wrong in ({}, {"request": ""}, {"request": "x", "allow": "all"}, {"request": "x", "more": 1}):
        with pytest.raises(ValidationError):
            AskParams.model_validate(wrong)
