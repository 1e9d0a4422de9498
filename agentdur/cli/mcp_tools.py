"""What a coding agent may ask of a server, as tools: each is a question to the admin API, or an action.

Rules of this file:
1. An answer fits into a context: lists and journals come in pages, long values are cut and say so.
2. A tool says what it refuses in the server's words, with the code; nothing has changed then.
3. Who decides an approval has read it: a decision carries the digest of what was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from agentdur.admin.words import Shown
from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import BadArgument
from agentdur.cli.selecting import Wanted

Json = dict[str, Any]
Tool = Callable[..., Json]

VALUE_LENGTH_MAX = 2_000
"""Characters of a value that are told."""
ROWS_MAX = 200
WAIT_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.2

RunId = Annotated[str, Field(description="The invocation's id, inv_…")]
ApprovalId = Annotated[str, Field(description="The approval's id, apr_…")]
Digest = Annotated[str, Field(description="The digest of the approval as you have read it.")]
Reason = Annotated[str, Field(description="Why; the agent that asked is told.")]
Limit = Annotated[int, Field(ge=1, le=ROWS_MAX)]
Deployment = Annotated[str, Field(description="`keep`, `latest` or a deployment id, dp_…")]


class Tools:
    """The tools, over one admin API."""

    def __init__(self, api: AdminApi) -> None:
        self._api = api

    def reading(self) -> list[Tool]:
        """Those that change nothing."""
        return [
            self.list_services, self.list_runs, self.read_run, self.wait_for_run, self.list_approvals,
            self.read_approval, self.read_state, self.list_sessions, self.query,
        ]  # fmt: skip

    def acting(self) -> list[Tool]:
        """Those that intervene in runs."""
        return [
            self.cancel_run, self.kill_run, self.pause_run, self.resume_run, self.restart_run, self.fork_run,
        ]  # fmt: skip

    def deciding(self) -> list[Tool]:
        """Those that answer in the place of a person."""
        return [self.approve, self.reject]

    # -- reading

    def list_services(self) -> Json:
        """What is served: services with their handlers, and what goes in and out of each."""
        found = self._api.part("/services", "services")
        return {"services": [_service(one) for one in found]}

    def list_runs(
        self,
        service: str | None = None,
        handler: str | None = None,
        key: str | None = None,
        status: list[Shown] | None = None,
        newer_than: Annotated[str | None, Field(description="A duration: `10m`, `2h`, `3 days`.")] = None,
        *,
        older_than: Annotated[str | None, Field(description="A duration: `10m`, `2h`, `3 days`.")] = None,
        limit: Limit = 20,
        after: Annotated[int | None, Field(description="`after` of the last answer: the next page.")] = None,
    ) -> Json:
        """Invocations, newest first: id, target, status, times, and how they ended or what they wait for."""
        wanted = Wanted(service, handler, key, None, list(status) if status else None, older_than, newer_than)
        found = self._api.get("/invocations", **wanted.body(), limit=limit, after=after)
        return {"runs": [_run(one) for one in found["invocations"]], "after": found["after"]}

    def read_run(
        self,
        id: RunId,
        from_entry: Annotated[int, Field(ge=0, description="The first journal entry that is told.")] = 0,
        entries: Annotated[int, Field(ge=0, le=ROWS_MAX, description="How many of them.")] = 50,
    ) -> Json:
        """One invocation with its journal: every step, call, wait and answer in order, model calls with
        tokens and cost. `last_failure` says why an attempt failed; `next_entry` is where to read on."""
        found = self._api.get(f"/invocations/{segment(id)}")
        journal = found.pop("journal", [])
        part = [one for one in journal if one["index"] >= from_entry][:entries]
        rest = len(journal) and part and part[-1]["index"] < journal[-1]["index"]
        return {
            **_cut(found), "journal_length": len(journal), "journal": [_cut(one) for one in part],
            "next_entry": part[-1]["index"] + 1 if rest else None,
        }  # fmt: skip

    def wait_for_run(
        self, id: RunId, seconds: Annotated[float, Field(gt=0, le=WAIT_SECONDS_MAX)] = 20.0
    ) -> Json:
        """Wait until an invocation has ended, for so long at most; then what is known of it, no journal."""
        until = time.monotonic() + seconds
        while True:
            found = self._api.get(f"/invocations/{segment(id)}")
            found.pop("journal", None)
            left = until - time.monotonic()
            if found["status"] == "completed" or left <= 0:
                return _cut(found)
            time.sleep(min(LOOK_SECONDS, left))

    def list_approvals(
        self, status: Literal["pending", "decided", "all"] = "pending", limit: Limit = 50
    ) -> Json:
        """Questions that agents ask people: what it is about, who asked, until when."""
        found = self._api.part("/approvals", "approvals", status=status, limit=limit)
        return {"approvals": [_cut(one) for one in found]}

    def read_approval(self, id: ApprovalId) -> Json:
        """One question, whole: with its payload and its digest."""
        answer: Json = self._api.get(f"/approvals/{segment(id)}")
        return answer

    def read_state(
        self,
        service: Annotated[str, Field(description="A virtual object or a workflow.")],
        key: str,
    ) -> Json:
        """The state of one key: texts, or lists of bytes where they are none."""
        return _cut(self._api.get(f"/services/{segment(service)}/state", object_key=key))

    def list_sessions(self, agent: str | None = None, limit: Limit = 50) -> Json:
        """Chat sessions: agent, id, title, turns, tokens and cost."""
        found = self._api.part("/sessions", "sessions", agent=agent, limit=limit)
        return {"sessions": [_cut(one) for one in found]}

    def query(
        self,
        sql: Annotated[str, Field(description="One SELECT; information_schema.columns has the columns.")],
    ) -> Json:
        """Ask in SQL: tables sys_invocation, sys_journal, sys_service, state and others. It cannot write."""
        _, answer = self._api.post("/query", {"query": sql})
        rows = answer["rows"]
        return {"rows": [_cut(row) for row in rows[:ROWS_MAX]], "left_out": max(0, len(rows) - ROWS_MAX)}

    # -- acting

    def cancel_run(self, id: RunId) -> Json:
        """Ask an invocation to end: its next await raises, its compensations run. Prefer this to kill."""
        return self._operate("cancel", id)

    def kill_run(self, id: RunId) -> Json:
        """End an invocation and all it called at once. Compensations do not run."""
        return self._operate("kill", id)

    def pause_run(self, id: RunId) -> Json:
        """Stop an invocation's attempts until it is resumed."""
        return self._operate("pause", id)

    def resume_run(self, id: RunId, deployment: Deployment = "keep") -> Json:
        """Go on now: ends a pause, a back-off or a suspension. After a fix of the code this is what to do."""
        return self._operate("resume", id, deployment=deployment)

    def restart_run(
        self,
        id: RunId,
        from_entry: Annotated[
            int, Field(ge=0, description="The last journal entry to keep; 0 keeps the input only.")
        ] = 0,
        deployment: Deployment = "latest",
    ) -> Json:
        """Fork a completed invocation: a new one with the same input and the journal up to an entry, which
        goes on from there. The old one stays as it is."""
        query = {"from": from_entry, "deployment": deployment}
        _, answer = self._api.patch(f"/invocations/{segment(id)}/restart-as-new", **query)
        return {"old_run": id, "new_run": answer["new_invocation_id"]}

    def fork_run(
        self,
        id: RunId,
        results: Annotated[
            dict[str, Any] | None,
            Field(
                description="Other results, by the entry of a step, tool, call or signal; by 0, the input."
            ),
        ] = None,
        turn: Annotated[
            int | None, Field(ge=1, description="The entry of a model's turn to ask anew.")
        ] = None,
        *,
        model: Annotated[str | None, Field(description="The model to ask in the turn.")] = None,
        messages: Annotated[
            dict[str, str] | None,
            Field(description="Other texts of the turn's messages, by their place, from 0 on."),
        ] = None,
        deployment: Deployment = "latest",
    ) -> Json:
        """Fork an invocation with something else in it: all before is kept, all behind runs anew. What is
        edited in a turn holds for later turns, too. The old one stays as it is."""
        edited = {name: one for name, one in (("model", model), ("messages", messages)) if one}
        if (turn is None) != (not edited) or not (edited or results):
            raise BadArgument("say what is edited: results, or a turn with a model or messages")
        body: Json = {"deployment": deployment, "edits": results or {}}
        if edited:
            body["turns"] = {str(turn): edited}
        _, answer = self._api.post(f"/invocations/{segment(id)}/fork", body)
        return {"old_run": id, "new_run": answer["new_invocation_id"]}

    def _operate(self, action: str, id: str, **query: Any) -> Json:
        status, _ = self._api.patch(f"/invocations/{segment(id)}/{action}", **query)
        return {"run": id, "action": action, "done": status == 200}

    # -- deciding

    def approve(
        self,
        id: ApprovalId,
        digest: Digest,
        reason: Reason = "",
        payload: Annotated[Any, Field(description="Approve this in place of what was asked about.")] = None,
    ) -> Json:
        """Say yes to a question, or to your own version of its payload."""
        body = {"digest": digest, "reason": reason, "by": "mcp"}
        return self._decide(id, "approve", body if payload is None else {**body, "payload": payload})

    def reject(self, id: ApprovalId, digest: Digest, reason: Reason = "") -> Json:
        """Say no to a question."""
        return self._decide(id, "reject", {"digest": digest, "reason": reason, "by": "mcp"})

    def _decide(self, id: str, verdict: str, body: Json) -> Json:
        _, record = self._api.post(f"/approvals/{segment(id)}/{verdict}", body)
        return _cut(record)


_TOLD = (
    "id", "target", "status", "created_at", "completed_at", "completion_result", "completion_failure",
    "output", "last_failure", "next_retry_at", "attempt", "waiting_for", "restarted_from",
)  # fmt: skip
_HANDLER = (
    "name", "ty", "documentation", "input_description", "output_description", "input_json_schema",
)  # fmt: skip


def _run(one: Json) -> Json:
    return _cut({name: one[name] for name in _TOLD if name in one})


def _service(one: Json) -> Json:
    handlers = [{name: each[name] for name in _HANDLER if name in each} for each in one["handlers"]]
    return {"name": one["name"], "type": one["ty"], "revision": one["revision"], "handlers": handlers}


def _cut(facts: Json) -> Json:
    """Long values as their beginning, and how long they are."""
    return {name: _cut_value(value) for name, value in facts.items()}


def _cut_value(value: Any) -> Any:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= VALUE_LENGTH_MAX:
        return value
    return {"characters": len(text), "beginning": text[:VALUE_LENGTH_MAX]}
