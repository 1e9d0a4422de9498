"""What is counted of an engine and its ingress. Every name is in docs/reference/metrics.md."""

from __future__ import annotations

from agentdur.core import journal as j
from agentdur.core.catalog import is_internal
from agentdur.core.state import Head
from agentdur.telemetry import genai
from agentdur.telemetry.follow import APPROVALS, Asked, Done, Failed, Live
from agentdur.telemetry.metrics import ENTRIES, Registry
from agentdur.telemetry.spans import outcome_of

HANDLER = ("service", "handler")


class EngineCounts:
    """Counts what a Follower tells, once: what is told again was counted by an earlier process."""

    def __init__(self, registry: Registry) -> None:
        counter, histogram = registry.counter, registry.histogram
        self._started = counter(
            "agentdur_invocations_started", "Invocations that were accepted.", (*HANDLER, "invoked_by")
        )
        self._ended = counter(
            "agentdur_invocations_completed",
            "Invocations that ended, by outcome: success, failure, cancelled, killed.", (*HANDLER, "outcome"),
        )  # fmt: skip
        self._seconds = histogram(
            "agentdur_invocation_duration_seconds",
            "From the acceptance of an invocation to its end.",
            HANDLER,
        )
        self._attempts = counter("agentdur_attempts", "Attempts that were started.", HANDLER)
        self._failed = counter("agentdur_attempt_failures", "Attempts that failed.", HANDLER)
        self._retries = counter(
            "agentdur_retries", "Failed attempts that are followed by another one.", HANDLER
        )
        self._paused = counter("agentdur_invocations_paused",
        "Invocations that failed and wait for an operator.",
                               HANDLER)  # fmt: skip
        self._steps = histogram(
            "agentdur_step_duration_seconds",
            "From the entry of a step to its result; kind: model, tool, step.",
            ("service", "kind"),
        )  # fmt: skip
        self._model_calls = counter("agentdur_llm_calls", "Model calls that gave an answer.", ("model",))
        self._tokens = counter(
            "agentdur_llm_tokens", "Tokens, by direction: input, output.", ("model", "direction")
        )
        self._cost = counter(
            "agentdur_llm_cost_dollars", "US dollars, as far as prices are known.", ("model",)
        )
        self._tools = counter(
            "agentdur_tool_calls", "Steps of tools, by outcome: success, failure.", ("tool", "outcome")
        )
        self._asked = counter("agentdur_approvals_asked", "Questions to people.", ("service",))
        self._decided = histogram(
            "agentdur_approval_wait_seconds", "From a question to its decision.", ("service",)
        )
        self._commit_seconds = histogram(
            "agentdur_commit_duration_seconds", "From collecting a commit to its end."
        )
        self._commit_entries = histogram(
            "agentdur_commit_entries", "Journal entries of a commit.", (), ENTRIES
        )

    def commit(self, entries: int, seconds: float) -> None:
        """A commit was made."""
        self._commit_seconds.observe(seconds)
        self._commit_entries.observe(entries)

    hears = ("begun", "attempt", "failed", "plain", "done", "decided", "ended")

    def begun(self, live: Live) -> None:
        """Accepted."""
        target = live.spec.target
        if not is_internal(target.service):
            self._started.add((target.service, target.handler, live.spec.invoked_by))

    def attempt(self, live: Live) -> None:
        """An attempt starts."""
        target = live.spec.target
        if not is_internal(target.service):
            self._attempts.add((target.service, target.handler))

    def failed(self, live: Live, failed: Failed) -> None:
        """An attempt failed."""
        target = live.spec.target
        labels = (target.service, target.handler)
        self._failed.add(labels)
        if failed.retry_at is not None:
            self._retries.add(labels)
        elif failed.paused:
            self._paused.add(labels)

    def plain(self, live: Live, step: j.Run, began: int, completion: j.Completion, at: int) -> None:
        """A step that went well and noted nothing."""
        self._steps.observe((at - began) / 1000, (live.spec.target.service, "step"))

    def done(self, live: Live, done: Done, again: bool) -> None:
        """An entry was completed."""
        if again:
            return
        entry, completion = done.entry, done.completion
        if type(entry) is j.Run:
            kind = "step"
            if completion.meta:
                kind = self._noted(completion)
            self._steps.observe((done.ended - done.began) / 1000, (live.spec.target.service, kind))
        elif isinstance(entry, j.OneWayCall) and entry.service == APPROVALS and entry.handler == "open":
            self._asked.add((live.spec.target.service,))

    def _noted(self, completion: j.Completion) -> str:
        note = genai.noted(completion.meta)
        failed = type(completion.outcome) is j.Failure
        if note.model is not None:
            model = genai.text(note.model)
            if not failed:
                self._model_calls.add((model,))
            self._tokens.add((model, "input"), genai.number(note.prompt_tokens))
            self._tokens.add((model, "output"), genai.number(note.completion_tokens))
            self._cost.add((model,), genai.cost(note.cost) or 0.0)
            return "model"
        if note.tool is not None:
            self._tools.add((genai.text(note.tool), "failure" if failed else "success"))
            return "tool"
        return "step"

    def decided(self, live: Live, asked: Asked, signal: j.Signal, at: int, again: bool) -> None:
        """A question was decided."""
        if not again:
            self._decided.observe((at - asked.at) / 1000, (live.spec.target.service,))

    def ended(self, live: Live, head: Head | None, result: j.Result, at: int) -> None:
        """It has a result."""
        target = live.spec.target
        if is_internal(target.service):
            return
        self._ended.add((target.service, target.handler, outcome_of(result)))
        self._seconds.observe((at - live.spec.created_at) / 1000, (target.service, target.handler))


class IngressCounts:
    """Counts the submissions of one ingress."""

    def __init__(self, registry: Registry) -> None:
        labels = ("service", "type")
        self._requests = registry.counter(
            "agentdur_ingress_requests",
            "Submissions: admitted, completed, invocation_error, request_error, client_gone.",
            ("status", *labels),
        )  # fmt: skip
        self._seconds = registry.histogram(
            "agentdur_ingress_request_duration_seconds", "From a submission to its answer.", labels
        )

    def admitted(self, service: str, kind: str) -> None:
        """A submission was accepted."""
        self._requests.add(("admitted", service, kind))

    def answered(self, service: str, kind: str, status: str, seconds: float) -> None:
        """It was answered."""
        self._requests.add((status, service, kind))
        self._seconds.observe(seconds, (service, kind))
