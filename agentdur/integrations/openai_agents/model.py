"""A model whose answers are steps of the journal.

Rules of this file:
1. One request is one step, named `llm:<agent>`: asked once, paid once, replayed for nothing.
2. Nothing but the journal retries: the client's own retries are off while a step runs, and the deadline of
   the settings counts inside of the step, where its end is journaled.
3. What is asked goes to the model unchanged; what the code sees went through the journal's JSON, on the
   first run as on a replay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from agents.items import ModelResponse, TResponseStreamEvent
from agents.models._retry_runtime import provider_managed_retries_disabled
from agents.models.interface import Model

from agentdur.integrations.openai_agents import codec, events
from agentdur.integrations.openai_agents.failures import translated
from agentdur.integrations.openai_agents.scope import Scope
from agentdur.integrations.runs import with_json
from agentdur.llm.errors import ModelTimeout
from agentdur.llm.failures import restored
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.stream import stream


class DurableModel(Model):
    """Asks the model it stands for within steps of the run it was made for; all else is that model's own."""

    def __init__(self, inner: Model, scope: Scope, agent: str, timeout: float | None) -> None:
        self._inner, self._scope, self._agent, self._timeout = inner, scope, agent, timeout

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

    @property
    def _name(self) -> str:
        return str(getattr(self._inner, "model", "") or type(self._inner).__name__)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The answer, from the model or from the journal."""

        async def ask() -> Any:
            answer = await self._inner.get_response(*args, **kwargs)
            self._note(answer.usage.input_tokens, answer.usage.output_tokens, answer.request_id)
            return codec.dump_answer(answer)

        return codec.load_answer(await self._step(ask))

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """The events of the whole answer; its deltas went out live while the step ran."""

        speaker, self._scope.speaker = self._scope.speaker, self._agent

        async def listen() -> Any:
            if self._agent != speaker:
                stream({"type": "agent", "name": self._agent})
            live = cast("Any", self._inner.stream_response(*args, **kwargs))
            async with aclosing(live):
                kind, response = await events.last_response(self._name, live)
            events.finish(self._name, kind, response)
            usage = response.usage
            counted = (usage.input_tokens, usage.output_tokens) if usage is not None else (0, 0)
            self._note(*counted, getattr(response, "_request_id", None))
            return {"kind": kind, **codec.dump_response(response)}

        data = await self._step(listen)
        for event in events.made_again(data["kind"], codec.load_response(data)):
            yield event

    async def _step(self, ask: Any) -> Any:
        async def action() -> Any:
            began = time.monotonic()
            try:
                with provider_managed_retries_disabled(True):
                    async with asyncio.timeout(self._timeout):
                        data = await ask()
            except TimeoutError as late:
                limit = "in time" if self._timeout is None else f"within {self._timeout:g} s"
                raise ModelTimeout(f"{self._name}: no answer {limit}", 504) from late
            except Exception as error:
                raise translated(self._name, error) from error
            note(latency_ms=round((time.monotonic() - began) * 1000))
            return data

        try:
            options = with_json(self._scope.how.model_options)
            return await self._scope.step("model", f"llm:{self._agent}", action, options)
        except TerminalError as error:
            raise restored(error) from None

    def _note(self, read: int, written: int, request_id: str | None) -> None:
        note(model=self._name, prompt_tokens=read, completion_tokens=written, request_id=request_id or "")
