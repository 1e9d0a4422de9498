"""A chat model whose every answer is journaled: asked once, paid once, replayed for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.runnables.base import RunnableParallel, RunnableSequence
from langchain_core.tools import BaseTool

from agentdur.core.errors import BadDefinition, NotInHandler
from agentdur.integrations.langchain.client import Asking, ChatClient
from agentdur.integrations.langchain.codec import result_of
from agentdur.integrations.langchain.steps import handler_context
from agentdur.llm.budget import accounts
from agentdur.llm.call import ModelCall
from agentdur.llm.completion import journaled
from agentdur.sdk.steps import RunOptions


class DurableChatModel(BaseChatModel):
    """A model of LangChain, made durable: use it wherever the model was used.

    `inner`: the model. `label`: model steps are named `llm:<label>`; part of the journal. `options`: how its
    failures are retried, instead of the invocation's policy. The provider client's own retries are off.
    """

    inner: Any
    label: str
    options: Any = None
    allow_ephemeral: bool = False

    @property
    def _llm_type(self) -> str:
        return f"durable-{self.inner._llm_type}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        refuse_sync(f"the model '{self.label}'")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        context = handler_context(self.allow_ephemeral, f"the model '{self.label}'")
        if context is None:
            result: ChatResult = await self.inner._agenerate_with_cache(messages, stop, run_manager, **kwargs)
            return result
        client = ChatClient(self.inner, messages, Asking(stop, run_manager, kwargs))
        call = ModelCall(client.request, client.request.model, accounts(), client)
        answer = await journaled(context, call, f"llm:{self.label}", self.options)
        return result_of(answer.message)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        raise NotImplementedError  # never called: see _should_stream
        yield

    def _should_stream(self, **kwargs: Any) -> bool:
        """The inner model decides within its step; code that iterates gets the whole answer as one chunk, the
        same on a replay."""
        return False

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The tools in the form that the inner model has for them."""
        bound = self.inner.bind_tools(tools, **kwargs)
        return self.bind(**bound.kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """The inner model's way to ask for structured output, with the durable model in its place."""
        made = self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs)
        return replaced(made, self.inner, self)


def durable_model(
    model: BaseChatModel, label: str = "model", *, options: RunOptions[Any] | None = None,
    allow_ephemeral: bool = False,
) -> DurableChatModel:  # fmt: skip
    """The model, durable. A model that is durable already is left as it is."""
    if isinstance(model, DurableChatModel):
        return model
    if not isinstance(model, BaseChatModel):
        raise BadDefinition(
            f"{type(model).__name__} is no chat model: make it durable before tools are bound to it"
        )
    return DurableChatModel(inner=model, label=label, options=options, allow_ephemeral=allow_ephemeral)


def refuse_sync(what: str) -> NoReturn:
    """Synchronous code blocks the loop of the handlers, and cannot wait for a journal."""
    raise NotInHandler(f"{what} is asked synchronously: use ainvoke or astream")


def replaced(runnable: Runnable[Any, Any], old: Any, new: Any) -> Runnable[Any, Any]:
    """A chain with another model in the place of `old`."""
    if runnable is old:
        return new  # type: ignore[no-any-return]  # a Runnable
    if isinstance(runnable, RunnableBinding):
        return runnable.model_copy(update={"bound": replaced(runnable.bound, old, new)})
    if isinstance(runnable, RunnableSequence):
        return runnable.model_copy(update={"first": replaced(runnable.first, old, new)})
    steps = getattr(runnable, "steps__", None)
    if isinstance(steps, dict):
        changed = {name: replaced(step, old, new) for name, step in steps.items()}
        return cast("RunnableParallel[Any]", runnable).model_copy(update={"steps__": changed})
    return runnable
