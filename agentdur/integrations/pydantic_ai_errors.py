"""How model requests and runs of Pydantic AI fail: what is worth another try, what ends the invocation.

Rules of this file:
1. Worth another try: no connection, no answer in time, 408, 409, 429 (but no spent quota), 5xx, an answer
   that cannot be read; in the words of `agentdur.llm`. The wait the provider asks for is kept.
2. What ends the invocation is a TerminalError and the framework's own class at once: `except ModelHTTPError`,
   `except UsageLimitExceeded` and fallbacks go on working, and nobody retries what cannot get better.
3. The journal keeps the class by its public name; from there it is built again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pydantic_ai import exceptions
from pydantic_core import to_json

from agentdur.core.errors import HandlerError, NotSerializable
from agentdur.llm.errors import BadModelAnswer
from agentdur.llm.failures import unavailable
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.providers import retry_after, worth_another_try

_BODY_CHARS_MAX = 4_000
_RUN_ENDS = (exceptions.UsageLimitExceeded, exceptions.UnexpectedModelBehavior)
_REFUSED, _LIMIT, _RUN = "model_refused", "usage_limit", "agent_run"
_CODES = {_REFUSED: "AD0100"}
"""The code of what `agentdur.llm` calls by the same name."""


class BadToolOptions(HandlerError):
    """A tool's `agentdur` metadata is no set of step options. Use the keys of ToolOptions, or False."""

    code = "AD0165"


class InlineToolNotAsync(HandlerError):
    """A tool that runs inline must be async. Make it `async def`, or let it be a step."""

    code = "AD0166"


class RunNotReplayable(HandlerError):
    """The run asks for something that a replay could not repeat. The message names it and what to use."""

    code = "AD0167"


class ToolsetWithoutId(HandlerError):
    """A toolset that is given to a run needs an id, which names its steps. Pass `id=` to it."""

    code = "AD0168"


def translated(error: Exception) -> Exception:
    """What a step of the framework raised, as one of ours; what is no failed request stays as it is."""
    if isinstance(error, exceptions.FallbackExceptionGroup):
        return _of_group(error)
    if isinstance(error, exceptions.ModelAPIError):
        return _of_request(error)
    if isinstance(error, exceptions.ContentFilterError):
        return _ending(error, 422, _REFUSED)
    if isinstance(error, exceptions.UsageLimitExceeded):
        return _ending(error, 500, _LIMIT)
    if isinstance(error, exceptions.UnexpectedModelBehavior):
        return BadModelAnswer(f"{type(error).__name__}: {error}", 502)
    return error


def run_error(error: BaseException) -> BaseException:
    """What ended a run, outside of its steps: it would end every attempt in the same way."""
    if isinstance(error, TerminalError) or not isinstance(error, _RUN_ENDS):
        return error
    kind = _LIMIT if isinstance(error, exceptions.UsageLimitExceeded) else _RUN
    return combined(error, _ending(error, 500, kind))


def reborn(error: TerminalError) -> TerminalError:
    """A failure from the journal, with the class it had in its step."""
    told = error.metadata or {}
    raised = told.get("raised")
    kind = getattr(exceptions, raised, None) if raised else None
    if not isinstance(kind, type) or not issubclass(kind, exceptions.AgentRunError):
        return error
    body = json.loads(told["body"]) if "body" in told else None
    model, said = told.get("model", ""), error.message
    inner: Exception
    if told.get("http"):
        http = exceptions.ModelHTTPError(error.status_code, model, body)
        inner = _dressed(http, kind)
    elif issubclass(kind, exceptions.ModelAPIError):
        inner = _dressed(exceptions.ModelAPIError(model, said), kind)
    else:
        inner = _dressed(exceptions.UnexpectedModelBehavior(said, told.get("body")), kind)
    return combined(inner, error)


def not_serializable(error: Exception) -> TerminalError:
    """A result that has no JSON form: another try would bring it again."""
    refused = NotSerializable(f"the result of a step: {error}")
    return TerminalError(str(refused), 500, {"agentdur_code": refused.code})


def combined(error: Exception, end: TerminalError) -> TerminalError:
    """One exception that is a TerminalError and the framework's at once."""
    kind = _both(type(error))  # type: ignore[arg-type]  # a class is hashable
    made: TerminalError = kind.__new__(kind)
    made.__dict__.update(vars(error))
    made.args = (end.message,)
    made.message, made.status_code, made.metadata = end.message, end.status_code, end.metadata
    return made


@lru_cache(maxsize=64)
def _both(kind: type[Exception]) -> type[TerminalError]:
    bases = (TerminalError, *_public(kind))
    return type(kind.__name__, bases, {"__module__": kind.__module__, "__str__": Exception.__str__})


def _public(kind: type) -> tuple[type, ...]:
    """The most specific classes of `kind` that the framework gives names to."""
    named = [base for base in kind.__mro__ if _named(base)]
    return tuple(base for base in named if not any(o is not base and issubclass(o, base) for o in named))


def _named(kind: type) -> bool:
    return not kind.__name__.startswith("_") and getattr(exceptions, kind.__name__, None) is kind


def _dressed(error: Exception, kind: type) -> Exception:
    """The same error as one of that kind, too."""
    if isinstance(error, kind):
        return error
    bases = (kind,) if issubclass(kind, type(error)) else (kind, type(error))
    made: Exception = Exception.__new__(type(kind.__name__, bases, {"__module__": kind.__module__}))
    made.__dict__.update(vars(error))
    made.args = error.args
    return made


def _of_group(group: ExceptionGroup[Any]) -> Exception:
    """Every model of a fallback failed: when one of them may work later, all are asked again."""
    found = [translated(error) for error in group.exceptions if isinstance(error, Exception)]
    waits = [error for error in found if not isinstance(error, TerminalError)]
    if not waits:
        return found[0]
    asked = [error.retry_after for error in waits if isinstance(error, RetryableError) and error.retry_after]
    soonest = min(asked) if len(asked) == len(waits) else None
    status = next((error.status_code for error in waits if isinstance(error, RetryableError)), 503)
    return unavailable(f"{group}: {'; '.join(str(error) for error in found)}", status, soonest)


def _of_request(error: exceptions.ModelAPIError) -> Exception:
    status = getattr(error, "status_code", None)
    headers: Mapping[str, str] = getattr(error, "headers", None) or {}
    if not _worth_another_try(error, status, headers):
        return _ending(error, status if isinstance(status, int) else 502, _REFUSED)
    return unavailable(str(error), status if isinstance(status, int) else 503, _wait(error, headers))


def _worth_another_try(
    error: exceptions.ModelAPIError, status: int | None, headers: Mapping[str, str]
) -> bool:
    if status is None:
        return not (_spent(error) or _is(error, "ModelRequestRejectedError"))
    advised = "x-should-retry" in headers
    return worth_another_try(status, headers, _told(error)) and (advised or not _spent(error))


def _spent(error: exceptions.ModelAPIError) -> bool:
    """A quota is used up, as the framework or the provider's answer says."""
    return _is(error, "ModelQuotaExceededError") or "insufficient_quota" in _told(error)


def _told(error: exceptions.ModelAPIError) -> str:
    return f"{getattr(error, 'body', '')}"


def _is(error: Exception, name: str) -> bool:
    """Of a class that not every version of the framework has."""
    kind = getattr(exceptions, name, None)
    return kind is not None and isinstance(error, kind)


def _wait(error: Exception, headers: Mapping[str, str]) -> timedelta | None:
    """Retry-After, as the framework read it or as the answer says it."""
    try:
        asked = getattr(error, "retry_after", None)
        return retry_after(headers) if asked is None else timedelta(seconds=float(asked))
    except (ValueError, TypeError, OverflowError):
        return None  # what nobody can read asks for nothing


def _ending(error: Exception, status: int, kind: str) -> TerminalError:
    """The end, with all that is needed to build the class again."""
    classes = sorted(_public(type(error)), key=lambda one: one is exceptions.ModelHTTPError)
    told = {"kind": kind, "raised": classes[0].__name__}
    if kind in _CODES:
        told["agentdur_code"] = _CODES[kind]
    model = getattr(error, "model_name", None)
    if model:
        told["model"] = str(model)
    if isinstance(error, exceptions.ModelHTTPError):
        told["http"] = "1"
    body = getattr(error, "body", None)
    if body is not None:
        text = body if isinstance(body, str) and not isinstance(error, exceptions.ModelAPIError) else None
        text = text if text is not None else to_json(body, fallback=str).decode()
        if len(text) <= _BODY_CHARS_MAX:
            told["body"] = text
    return TerminalError(str(error), status, told)
