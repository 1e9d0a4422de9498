"""The OpenAPI documents and their page."""

from __future__ import annotations

from typing import Any

import pytest

from agentdur.core.catalog import Catalog, HandlerMeta, InputRule, OutputRule, ServiceMeta
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.ingress.openapi import openapi, openapi_of_all
from tests.http.wire import Address
from tests.http.world import CATALOG

QUESTION = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "by": {"$ref": "#/$defs/Person"}},
    "$defs": {"Person": {"properties": {"boss": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]}}}},
}


def service(name: str, kind: ServiceKind, handler_kind: HandlerKind, **more: Any) -> ServiceMeta:
    handler = HandlerMeta(
        name="ask",
        kind=handler_kind,
        input=InputRule(content_type="application/json", json_schema=QUESTION, required=True),
        output=OutputRule(json_schema={"type": "string"}),
        documentation="Ask it.",
    )
    return ServiceMeta(name=name, kind=kind, handlers={"ask": handler}, **more)


def references(document: object) -> list[str]:
    if isinstance(document, dict):
        own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
        return own + [found for value in document.values() for found in references(value)]
    if isinstance(document, list):
        return [found for item in document for found in references(item)]
    return []


def resolve(document: dict[str, Any], reference: str) -> object:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_a_service_has_its_calls_sends_and_results() -> None:
    document = openapi(service("Oracle", ServiceKind.SERVICE, HandlerKind.PLAIN, revision=3))
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "Oracle", "version": "3"})
    assert {path: list(item) for path, item in document["paths"].items()} == {
        "/restate/call/Oracle/ask": ["post"],
        "/restate/invocation/Oracle/ask/{idempotencyKey}/attach": ["get"],
        "/restate/invocation/Oracle/ask/{idempotencyKey}/output": ["get"],
        "/restate/send/Oracle/ask": ["post"],
    }
    call = document["paths"]["/restate/call/Oracle/ask"]["post"]
    assert call["description"] == "Ask it."
    assert call["requestBody"]["required"] is True
    assert call["parameters"] == [{"$ref": "#/components/parameters/idempotencyKeyHeader"}]
    assert call["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/askResponse"}}
    }
    sent = document["paths"]["/restate/send/Oracle/ask"]["post"]
    assert {"$ref": "#/components/parameters/delay"} in sent["parameters"]


def test_a_keyed_service_is_addressed_by_key() -> None:
    document = openapi(service("Room", ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE))
    assert sorted(document["paths"]) == [
        "/restate/call/Room/{key}/ask",
        "/restate/invocation/Room/{key}/ask/{idempotencyKey}/attach",
        "/restate/invocation/Room/{key}/ask/{idempotencyKey}/output",
        "/restate/send/Room/{key}/ask",
    ]


def test_a_workflows_result_is_addressed_by_its_key_alone() -> None:
    document = openapi(service("Trip", ServiceKind.WORKFLOW, HandlerKind.WORKFLOW))
    assert sorted(document["paths"]) == [
        "/restate/call/Trip/{key}/ask",
        "/restate/send/Trip/{key}/ask",
        "/restate/workflow/Trip/{key}/attach",
        "/restate/workflow/Trip/{key}/output",
    ]
    call = document["paths"]["/restate/call/Trip/{key}/ask"]["post"]
    assert call["parameters"] == [{"$ref": "#/components/parameters/key"}]


def test_a_private_service_cannot_be_called() -> None:
    document = openapi(service("Oracle", ServiceKind.SERVICE, HandlerKind.PLAIN, public=False))
    assert not [path for path in document["paths"] if "/call/" in path or "/send/" in path]


def test_definitions_inside_a_schema_stay_reachable() -> None:
    document = openapi(service("Oracle", ServiceKind.SERVICE, HandlerKind.PLAIN))
    assert document["components"]["schemas"]["askRequest"]["properties"]["by"] == {
        "$ref": "#/components/schemas/askRequest.Person"
    }
    for reference in references(document):
        assert resolve(document, reference) is not None
    assert "$defs" in QUESTION, "the handler's own schema is left as it was"


def test_every_reference_of_every_document_leads_somewhere() -> None:
    both = openapi_of_all(CATALOG.services.values(), "all")
    for document in [both, *(openapi(meta) for meta in CATALOG.services.values())]:
        assert references(document)
        for reference in references(document):
            assert resolve(document, reference) is not None
    operations = [op["operationId"] for item in both["paths"].values() for op in item.values()]
    assert len(operations) == len(set(operations))


def test_metadata_travels_as_an_extension() -> None:
    document = openapi(service("S", ServiceKind.SERVICE, HandlerKind.PLAIN, metadata={"team": "a"}))
    assert document["info"]["x-restate-extensions"] == {"team": "a"}


def test_nothing_served_is_a_document_too() -> None:
    assert openapi_of_all(Catalog().services.values(), "none")["paths"] == {}


def test_the_documents_are_served(ingress: Address) -> None:
    document = ingress.ask("GET", "/restate/openapi").json()
    assert "/restate/call/Counter/{key}/seen" in document["paths"]
    one = ingress.ask("GET", "/restate/openapi/Echo").json()
    assert one == openapi(CATALOG.services["Echo"])
    assert ingress.ask("GET", "/restate/openapi/Nope").status == 404


def test_the_page_shows_the_document(ingress: Address) -> None:
    page = ingress.ask("GET", "/restate/docs")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"/restate/openapi" in page.body


@pytest.mark.parametrize("path", ["/restate/docs", "/restate/openapi"])
def test_a_document_is_only_read(ingress: Address, path: str) -> None:
    assert ingress.ask("POST", path, b"").status == 405
