"""A model whose answers are steps of the journal.

Rules of this file:
1. One request is one step, named `llm:<agent>`: asked once, paid once, replayed for nothing. It is a model
   call like those of `agentdur.llm`: budgets and limits bind it, views show it.
2. Nothing but the journal retries: the client's own retries are off while a step runs, and the deadline of
   the settings counts inside of the step, where its end is journaled.
3. What is asked goes to the model unchanged; what the code sees went through the journal's JSON, on the
   first run as on a replay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from agents.items import ModelResponse, TResponseStreamEvent
from agents.models.interface import Model, ModelProvider

from agentdur.integrations.model_calls import Data
from agentdur.integrations.openai_agents import codec, events
from agentdur.integrations.openai_agents.client import AgentsClient, Answer, name_of
from agentdur.integrations.openai_agents.scope import Scope
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.budget import accounts
from agentdur.llm.call import ModelCall
from agentdur.sdk.stream import stream


class DurableModel(Model):
    """Asks the model it stands for within steps of the run it was made for; all else is that model's own."""

    def __init__(
        self, inner: Model, scope: Scope, agent: str, provider: ModelProvider, timeout: float | None
    ) -> None:
        self._inner, self._scope, self._agent = inner, scope, agent
        self._provider, self._timeout = provider, timeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def close(self) -> None:
        await self._inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        clean = getattr(self._inner, "_cleanup_on_run_end", None)
        if clean is not None:
            await clean(owner)

    def get_retry_advice(self, request: Any) -> Any:
        return self._inner.get_retry_advice(request)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The answer, from the model or from the journal."""

        async def ask(model: Model) -> Data:
            return dict(codec.dump_answer(await model.get_response(*args, **kwargs)))

        answer = await self._ask(ask, args, kwargs)
        return codec.load_answer(answer.message)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """The events of the whole answer; its deltas went out live while the step ran."""

        speaker, self._scope.speaker = self._scope.speaker, self._agent

        async def listen(model: Model) -> Data:
            if self._agent != speaker:
                stream({"type": "agent", "name": self._agent})
            name = name_of(model)
            live = cast("Any", model.stream_response(*args, **kwargs))
            async with aclosing(live):
                kind, response = await events.last_response(name, live)
            return {"kind": kind, **codec.dump_response(response)}

        data = (await self._ask(listen, args, kwargs, stream=True)).message
        for event in events.made_again(data["kind"], codec.load_response(data)):
            yield event

    async def _ask(
        self, answer: Answer, args: tuple[Any, ...], kwargs: dict[str, Any], stream: bool = False
    ) -> ModelAnswer:
        client = AgentsClient(self._inner, self._provider, self._timeout, answer)
        request = client.request(args, kwargs, stream)
        call = ModelCall(request, request.model, accounts(), client)
        return await self._scope.ask("model", f"llm:{self._agent}", call, self._scope.how.model_options)
