"""One model call, journaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from agentdur.llm.answer import ModelAnswer
from agentdur.llm.budget import accounts, shared_accounts
from agentdur.llm.call import ModelCall, within_a_handler
from agentdur.llm.edited import edited
from agentdur.llm.errors import (
    AnswerMisfit,
    BudgetExceeded,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
    revived,
)
from agentdur.llm.request import PATIENCE, PATIENCE_WITH_FALLBACK, TIMEOUT, Request, Timeouts, timeouts
from agentdur.llm.shared import SharedAccount, may_cost
from agentdur.llm.structured import Form, repair
from agentdur.sdk.context import Context, branch_of
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunFuture, RunOptions

BEFORE_A_FALLBACK: RunOptions[ModelAnswer] = RunOptions(
    max_attempts=3, initial_retry_interval=timedelta(milliseconds=500)
)
"""How often a model is tried when another one can be asked, unless the call has options of its own."""


class HasSpec(Protocol):
    """A tool that can describe itself to a model."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The description, in OpenAI's shape."""


async def completion(
    ctx: Context | None,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[HasSpec | Mapping[str, Any]] | None = None,
    response_format: Any = None,
    *,
    role: str = "",
    timeout: timedelta | Timeouts = TIMEOUT,
    options: RunOptions[ModelAnswer] | None = None,
    stream: bool = False,
    fallbacks: Sequence[str] = (),
    repairs: int = 1,
    patience: timedelta | None = None,
    allow_ephemeral: bool = False,
    **settings: Any,
) -> ModelAnswer:
    """Ask a model, once: the answer is a step of the journal, and a replay costs nothing.

    `ctx` None means the handler that is running. `model`, `messages` and the settings (temperature, api_base
    and so on) are LiteLLM's. The step is named `llm:<role>`, by default after the service: names are part of
    the journal, so a role must not change under running invocations, while the model may. `options` replaces
    the invocation's retry policy for this call; `patience` bounds how long it waits where waiting costs no
    attempt. With `stream` what the model says goes out while it says it; the journal holds the whole answer.

    `response_format`: a type (pydantic model, dataclass, TypedDict, Struct), or the provider's own words for
    one. An answer that does not fit the type goes back to the model, `repairs` times; then AnswerMisfit is
    raised.
    `fallbacks` are asked in turn when a model refuses what another may take, or has failed as often as its
    options allow; each is a step of its own, `llm:<role>/fallback`.

    Raises ModelRefused when the provider will not answer this request at all, BudgetExceeded within a budget;
    everything else is retried. Outside of a handler it raises NotInHandler, unless `allow_ephemeral` says
    that nothing need be journaled: then nothing is retried either.
    """
    context = ctx
    if ctx is None and (within_a_handler() or not allow_ephemeral):
        context = current_context()
    given = {**settings}
    if tools:
        given["tools"] = [dict(t) if isinstance(t, Mapping) else dict(t.spec) for t in tools]
    form = None if response_format is None else Form(response_format)
    if form is not None:
        given["response_format"] = form.sent
    if patience is None:
        patience = PATIENCE_WITH_FALLBACK if fallbacks else PATIENCE
    first = Request(
        model=model, messages=[dict(message) for message in messages], settings=given,
        times=timeouts(timeout), stream=stream, patience=patience,
    )  # fmt: skip
    name = f"llm:{role}" if role or context is None else f"llm:{branch_of(context).attempt.target.service}"
    asked = _Asked(context, tuple(fallbacks), options)
    answer = await asked.answer(first, name)
    if form is None:
        return answer
    return await _fitting(asked, replace(first), answer, form=form, repairs=repairs, name=name)


async def _fitting(
    asked: _Asked, request: Request, answer: ModelAnswer, *, form: Form, repairs: int, name: str
) -> ModelAnswer:
    """The answer, or the first one that fits after telling the model what does not."""
    left = repairs
    while (misfit := form.misfit(answer)) is not None:
        if left <= 0:
            raise AnswerMisfit(
                f"{answer.model or request.model}: {misfit}", 500, {"answer": answer.text[:1000]}
            )
        left -= 1
        request = replace(request, messages=repair(request.messages, answer, misfit))
        answer = await asked.answer(request, f"{name}/repair")
    return answer


async def journaled(
    context: Context, call: ModelCall, name: str, options: RunOptions[ModelAnswer] | None
) -> ModelAnswer:
    """The answer to a call that somebody else's client makes, as a step like those of `completion`: for
    frameworks that bring models of their own."""
    return await _Asked(context, (), options).one(call, name, last=True)


@dataclass(slots=True)
class _Asked:
    """Where a call is journaled, and whom it may ask."""

    context: Context | None
    fallbacks: tuple[str, ...]
    options: RunOptions[ModelAnswer] | None

    async def answer(self, request: Request, name: str) -> ModelAnswer:
        """The answer of the first model that gives one."""
        models = (request.model, *self.fallbacks)
        for number, model in enumerate(models):
            last = number == len(models) - 1
            call = ModelCall(replace(request, model=model), request.model, accounts())
            try:
                return await self.one(call, f"{name}/fallback" if number else name, last)
            except ModelRefused as refused:
                if last or not refused.for_this_model:
                    raise
            except (ModelFailed, ModelUnavailable):
                if last:
                    raise
        raise AssertionError("the last model answers or raises")

    async def one(self, call: ModelCall, name: str, last: bool) -> ModelAnswer:
        """The answer of this model; where a budget is used up and a person grants more, it is asked again."""
        if self.context is None:
            return await call.run()
        call = edited(self.context, call, name)
        while True:
            try:
                return await self._among_others(self.context, call, name, last)
            except BudgetExceeded as exceeded:
                account = call.account_of(exceeded)
                if account is None or account.limits.on_limit != "approve":
                    raise
                if not await account.ask_person(self.context, exceeded):
                    raise

    async def _among_others(self, context: Context, call: ModelCall, name: str, last: bool) -> ModelAnswer:
        """The step, when the budgets that others spend from as well let it be made."""
        shared = shared_accounts(context)
        for limits in (*(own.limits for own in call.under), *(others.limits for others in shared)):
            if limits.model is not None:
                call.client.switch(limits.model)
        if not shared:
            return await self._step(context, call, name, last)
        in_money = any(account.limits.cost is not None for account in shared)
        may = await may_cost(context, call.request, in_money)
        number = context.idempotency_key
        let: list[SharedAccount] = []
        try:
            for account in shared:
                cheaper = await account.admit(context, number, call.request, may)
                let.append(account)
                if cheaper:
                    call = call.instead(cheaper)
            answer = await self._step(context, call, name, last)
        except TerminalError:
            for account in let:
                account.settle(context, number, None)
            raise
        for account in let:
            account.settle(context, number, answer)
        return answer

    async def _step(self, context: Context, call: ModelCall, name: str, last: bool) -> ModelAnswer:
        options = self.options
        if not last and (options is None or not options.retries):
            options = (
                BEFORE_A_FALLBACK if options is None else replace(BEFORE_A_FALLBACK, serde=options.serde)
            )
        how: RunOptions[ModelAnswer] = replace(options or RunOptions(), type_hint=ModelAnswer)
        if call.client.stored is not None:
            how = replace(how, type_hint=None, serde=call.client.stored)
        step: RunFuture[ModelAnswer] = context.run_typed(name, call.run, how)
        try:
            answer = await step
        except TerminalError as error:
            raise revived(error) from None
        call.settle(f"{context.invocation_id}/{step.branch.name}/{step.number}", answer)
        return answer
