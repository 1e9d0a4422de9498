"""What differs between the APIs that give a model's answer: how a request is read, how an answer is spelt."""

from __future__ import annotations

from typing import Any, Protocol

from agentdur.testing.scripted_llm import answers, responses_answers
from agentdur.testing.scripted_llm.answers import Answer
from agentdur.testing.scripted_llm.playbook import ChatRequest, parse_request
from agentdur.testing.scripted_llm.responses_kept import Shelf
from agentdur.testing.scripted_llm.responses_request import ResponsesRequest, parse_responses


class Dialect(Protocol):
    """One API. Its methods are given back the requests they made."""

    last: bytes
    """What ends a stream after its last event."""

    def parse(self, body: bytes) -> ChatRequest:
        """The request; raises BadRequest."""

    def whole(self, request: Any, answer: Answer) -> dict[str, Any]:
        """The answer that is not streamed."""

    def events(self, request: Any, answer: Answer) -> list[bytes]:
        """The events of a stream, without what ends it."""

    def empty(self, request: Any, answer: Answer) -> dict[str, Any]:
        """An answer in which there is nothing."""

    def empty_events(self, request: Any, answer: Answer) -> list[bytes]:
        """The same, streamed."""

    def error_event(self, number: int, message: str, code: str) -> bytes:
        """A failure in place of event `number` of a stream."""

    def answered(self, request: Any, answer: Answer, delay_ms: int) -> bool:
        """The answer is about to be sent, after so long; True: it is sent at once, and the time passes in the
        background."""


class Chat:
    """/v1/chat/completions."""

    last = answers.DONE

    def parse(self, body: bytes) -> ChatRequest:
        return parse_request(body)

    def whole(self, request: ChatRequest, answer: Answer) -> dict[str, Any]:
        return answers.completion(answer)

    def events(self, request: ChatRequest, answer: Answer) -> list[bytes]:
        return [answers.sse(chunk) for chunk in answers.chunks(answer, include_usage=request.include_usage)]

    def empty(self, request: ChatRequest, answer: Answer) -> dict[str, Any]:
        return answers.completion_without_choices(answer)

    def empty_events(self, request: ChatRequest, answer: Answer) -> list[bytes]:
        return [answers.sse(answers.chunk_without_choices(answer))]

    def error_event(self, number: int, message: str, code: str) -> bytes:
        return answers.sse(answers.error_body(message, "server_error", code))

    def answered(self, request: ChatRequest, answer: Answer, delay_ms: int) -> bool:
        return False


class Responses:
    """/v1/responses; what it answers is kept on the shelf, unless the request says otherwise."""

    last = b""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def parse(self, body: bytes) -> ChatRequest:
        return parse_responses(body, self.shelf)

    def whole(self, request: ResponsesRequest, answer: Answer) -> dict[str, Any]:
        if request.body.background:
            return responses_answers.unfinished(request, answer, "queued")
        return responses_answers.response(request, answer)

    def events(self, request: ResponsesRequest, answer: Answer) -> list[bytes]:
        return responses_answers.events(request, answer)

    def empty(self, request: ResponsesRequest, answer: Answer) -> dict[str, Any]:
        return responses_answers.response_without_output(request, answer)

    def empty_events(self, request: ResponsesRequest, answer: Answer) -> list[bytes]:
        return responses_answers.events_without_output(request, answer)

    def error_event(self, number: int, message: str, code: str) -> bytes:
        return responses_answers.error_event(number, message, code)

    def answered(self, request: ResponsesRequest, answer: Answer, delay_ms: int) -> bool:
        whole, events = responses_answers.response(request, answer), self.events(request, answer)
        self.shelf.keep(request, whole, events, delay_ms)
        return bool(request.body.background) and not request.stream
