"""Tools of MCP servers, over stdio or streamable HTTP (`agentdur[mcp]`).

    files = McpServer("files", command=["npx", "-y", "@modelcontextprotocol/server-filesystem", "/data"])
    tools = await files.tools(ctx)

Rules of this file:
1. What a server offers is asked once per run and journaled: a server that changes in between changes nothing.
2. A call is one step. It carries the call's key in `_meta`, so that a server can tell a second try.
3. There is one session per server, process and loop. It is opened when it is needed and dropped when anything
   is wrong with it: the next try opens another.
4. A server that asks for input gets it from a person, between two steps of the call: it may take days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import mcp_types as types
import msgspec
from mcp import MCPError

from agentdur.core.errors import BadDefinition
from agentdur.sdk.approval import ask
from agentdur.sdk.context import Context
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions
from agentdur.tools.answer import LEG, Pending
from agentdur.tools.key import tool_key
from agentdur.tools.mcp_session import Place, Session
from agentdur.tools.text import Misfit, ToolError
from agentdur.tools.tool import Approve, Predicate, Tool, default_options, rule_of

KEY = "agentdur/idempotency-key"
"""Under this name in `_meta` a server finds the key of the call: the same for each try."""
CALL_TIMEOUT = timedelta(minutes=1)
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_REFUSED = frozenset({types.INVALID_PARAMS, types.METHOD_NOT_FOUND, types.INVALID_REQUEST})
"""What a server says to a request that will never be any good: the model is told."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool as its server describes it: what discovery journals."""

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    idempotent: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class McpServer:
    """Where a server is: a `command` to start, or a `url`. `name` is part of the journal."""

    name: str
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | Path | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    _sessions: WeakKeyDictionary[Any, Session] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if bool(self.command) is bool(self.url):
            raise BadDefinition(f"MCP server '{self.name}': give a command or a url, one of them")

    async def tools(
        self,
        ctx: Context | None = None,
        *,
        only: Sequence[str] | None = None,
        prefix: str = "",
        options: RunOptions[Any] | None = None,
        timeout: timedelta = CALL_TIMEOUT,
        approval: bool | Predicate | Approve | Mapping[str, bool | Predicate | Approve] | None = None,
        idempotent: bool | None = None,
    ) -> list[Tool]:
        """Its tools, or those named in `only`, each with the `prefix` before its name. `approval`: for all,
        or by the server's names. `idempotent`: None means as each tool says of itself (its annotations); what
        says nothing may be called again under the same key. `ctx` None: the handler that is running."""
        context = ctx if ctx is not None else current_context()
        step = options or default_options()
        offered = await context.run_typed(f"mcp:{self.name}", self._discover)  # tried as the handler is
        offers = msgspec.convert(offered, list[Offer])
        if only is not None:
            missing = set(only) - {offer.name for offer in offers}
            if missing:
                raise BadDefinition(f"MCP server '{self.name}' has no tool {', '.join(sorted(missing))}")
            offers = [offer for offer in offers if offer.name in only]
        made = []
        for offer in offers:
            rule = approval.get(offer.name) if isinstance(approval, Mapping) else approval
            made.append(
                Tool(
                    function=self._caller(offer), name=named(prefix + offer.name), reader=read_object,
                    description=offer.description, schema=offer.schema, options=step, timeout=timeout,
                    approval=rule_of(rule), legs=_legs(self.name, offer.name),
                    idempotent=offer.idempotent if idempotent is None else idempotent,
                )
            )  # fmt: skip
        return made

    async def aclose(self) -> None:
        """End the sessions of this loop, and a server that was started."""
        await self._session().close()

    def _session(self) -> Session:
        place = Place(self.name, tuple(self.command), dict(self.env), self.cwd, self.url, dict(self.headers))
        return Session.of(self._sessions, place)

    async def _discover(self) -> list[Offer]:
        return [_offer(tool) for tool in await self._session().offered()]

    def _caller(self, offer: Offer) -> Callable[..., Any]:
        async def calling(**arguments: Any) -> str:
            leg = arguments.pop(LEG, None) or {}
            session = self._session()
            try:
                result = await session.call(
                    offer.name, arguments, {KEY: tool_key()}, _responses(leg.get("responses")),
                    leg.get("state"),
                )  # fmt: skip
            except MCPError as error:
                if error.code in _REFUSED:
                    raise ToolError(error.message) from error
                raise
            if isinstance(result, types.InputRequiredResult):
                raise Pending(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            text = text_of_result(result)
            if result.is_error:
                raise ToolError(text or "the tool failed and did not say why")
            return text

        return calling


def _offer(tool: types.Tool) -> Offer:
    hints = tool.annotations or types.ToolAnnotations()
    once = not hints.read_only_hint and (hints.idempotent_hint is False or hints.destructive_hint is True)
    return Offer(
        name=tool.name, description=tool.description or tool.title or "", schema=dict(tool.input_schema),
        idempotent=bool(hints.idempotent_hint) or not once,
    )  # fmt: skip


def named(name: str) -> str:
    """A name every provider takes, as close to the server's as can be."""
    return _NO_NAME.sub("_", name)[:64]


def read_object(text: str) -> Mapping[str, Any]:
    """Arguments as the model gave them: the server checks them."""
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Misfit(f"Invalid JSON: {error}") from error
    if not isinstance(given, dict):
        raise Misfit("Input should be an object")
    return given


def text_of_result(result: types.CallToolResult) -> str:
    """What a model reads of it: the texts, and of all else that it is there."""
    parts = [_part(block) for block in result.content]
    if not parts and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return "\n".join(parts)


def _part(block: Any) -> str:
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.ImageContent | types.AudioContent):
        return f"[{block.type} {block.mime_type}, {len(block.data)} characters of base64]"
    if isinstance(block, types.EmbeddedResource) and isinstance(block.resource, types.TextResourceContents):
        return str(block.resource.text)
    return str(block.model_dump_json(by_alias=True, exclude_none=True))


# What a server asks in between


def _legs(server: str, tool: str) -> Callable[[Any], Any]:
    async def answered(needs: dict[str, Any]) -> dict[str, Any]:
        """Each request answered by a person; what no person can answer ends the call."""
        context = current_context()
        responses = {}
        for name, request in sorted((needs.get("inputRequests") or {}).items()):
            if request.get("method") != "elicitation/create":
                _unanswerable(server, tool, str(request.get("method")))
            responses[name] = await _elicited(context, server, tool, request["params"])
        if not responses:
            await context.sleep(timedelta(milliseconds=250), name=f"mcp:{server}")
        return {"responses": responses, "state": needs.get("requestState")}

    return answered


async def _elicited(context: Context, server: str, tool: str, asked: dict[str, Any]) -> dict[str, Any]:
    shown = {"server": server, "tool": tool, "content": {}}
    for name, field_ in (("requestedSchema", "schema"), ("url", "url")):
        if name in asked:
            shown[field_] = asked[name]
    said = await ask(context, str(asked.get("message") or f"{server} asks for input"), shown, tool=tool)
    if not said:
        return {"action": "cancel" if said.timed_out else "decline"}
    if asked.get("mode") == "url":
        return {"action": "accept"}
    payload = said.payload if isinstance(said.payload, dict) else {}
    return {"action": "accept", "content": payload.get("content", {})}


def _unanswerable(server: str, tool: str, method: str) -> NoReturn:
    raise ToolError(f"{server} asks for '{method}' before {tool} can go on, and nobody here can answer that")


def _responses(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not given:
        return None
    return {name: types.ElicitResult.model_validate(answer) for name, answer in given.items()}
