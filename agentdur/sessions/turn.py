"""One turn: a message comes, the agent works, an answer is there. Runs under the key's lock.

Rules of this file:
1. The history grows only: each message is a state value of its own, written once. A turn writes what is new.
2. What the model said and the tools answered is stored in whole groups, before the next model call.
3. However a turn ends (answered, cancelled, failed), the history holds no torn pair and the record says how.
   The end itself waits for nothing: a second cancel finds nothing to interrupt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from agentdur.agent import Agent, AgentRun, run_agent
from agentdur.llm import ModelAnswer, Usage
from agentdur.sdk.cancel import CANCELLED
from agentdur.sdk.context import ObjectContext
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.kept import read_kept
from agentdur.sessions.compaction import Compaction, digest_message
from agentdur.sessions.errors import BadMessage, SessionBusy, UnknownMessage
from agentdur.sessions.history import conversation, mended
from agentdur.sessions.journaled import interrupted_text
from agentdur.sessions.steering import Steering
from agentdur.sessions.words import (
    About,
    Known,
    Message,
    Post,
    Reply,
    Running,
    Status,
    Stored,
    TurnRecord,
    id_name,
    message_name,
    text_of,
    turn_name,
)

Converse: TypeAlias = Callable[[ObjectContext, list[Message]], Awaitable[Any]]
"""An agent written by hand: the conversation in, a reply out (text, a message, several, or an AgentRun)."""
Entries: TypeAlias = list[tuple[int, Stored]]

TITLE_LENGTH = 80
"""Characters of the first message that become the session's title."""
_STORED = msgspec.json.Decoder(Stored)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the turns of a chat are run."""

    agent: Agent | Converse
    compaction: Compaction | None
    stream: bool


async def read_log(ctx: Any, upto: int, start: int = 0) -> Entries:
    """The entries of the history from `start` up to and without `upto`; those that are gone are left out."""
    values = await read_kept(ctx, [message_name(index) for index in range(start, upto)])
    return [(start + n, _STORED.decode(raw)) for n, raw in enumerate(values) if raw]


class Turn:
    """One turn of one session."""

    def __init__(self, ctx: ObjectContext, style: Style, post: Post, about: About, now: float) -> None:
        self.ctx, self.style, self.post, self.now = ctx, style, post, now
        self.about = about
        self.first = about.next
        self.answer: int | None = None
        self.steering = Steering(ctx)
        self.log: list[Message] = []
        """What was said in this turn, as the agent's loop adds to it."""
        self.saved = 0
        """How much of it is in the history."""

    # -- writing

    def put(self, entry: Stored) -> int:
        """Append to the history."""
        index = self.about.next
        counted = int(entry.message is not None)
        self.about = msgspec.structs.replace(
            self.about, next=index + 1, messages=self.about.messages + counted
        )
        self.ctx.set(message_name(index), entry)
        return index

    def say(self, message: Message, id: str = "", partial: bool = False) -> int:
        """Append a message to the history."""
        index = self.put(
            Stored(
                id=id or f"{self.about.turns}.{self.about.next}", turn=self.about.turns, at=self.now,
                message=message, partial=partial,
            )
        )  # fmt: skip
        if message.get("role") == "assistant":
            self.answer = index
        return index

    def hear(self, id: str, content: Any) -> Message:
        """Append a user's message, and remember where its id went."""
        message: Message = {"role": "user", "content": content}
        index = self.say(message, id)
        self.ctx.set(id_name(id), Known(turn=self.about.turns, index=index))
        return message

    def save(self) -> None:
        """Store what the agent has said since the last time, its pairs made whole."""
        for message in mended(self.log[self.saved :]):
            self.say(message)
        self.saved = len(self.log)

    # -- the course of it

    async def run(self) -> Reply:
        """From the message to the reply. TerminalError when the agent fails for good."""
        entries = await self._begin()
        try:
            done = await self._work(entries)
        except TerminalError as error:
            if error.status_code != 409 or error.message != CANCELLED:
                self.save()
                self._end("failed", error=error.message)
                raise
            self.save()
            text = interrupted_text(self.ctx)
            if text:
                self.say({"role": "assistant", "content": text}, partial=True)
            return self._end("interrupted", text=text)
        self.log = [*self.log, *done.messages[len(self.log) :]]
        self.save()
        return self._end("completed", done)

    async def _begin(self) -> Entries:
        """Put the message where it belongs; the conversation as it is then."""
        post, about = self.post, self.about
        entries = conversation(await read_log(self.ctx, about.next))
        if about.running is not None:  # its invocation was killed: nobody else could leave it there
            self._lost(about.running)
        self.about = about = msgspec.structs.replace(
            self.about,
            turns=about.turns + 1, updated=self.now,
            running=Running(turn=about.turns + 1, invocation=self.ctx.invocation_id, id=post.id),
            title=about.title or text_of(post.content)[:TITLE_LENGTH],
        )  # fmt: skip
        if post.trigger == "message":
            if not post.content:
                raise BadMessage("content: a message is not empty")
        else:
            entries = self._rewind(entries)
        if post.trigger == "regenerate":
            self.ctx.set(id_name(post.id), Known(turn=self.about.turns, index=entries[-1][0]))
        else:
            for earlier in mended(post.preceding):
                entries.append((self.say(earlier), Stored(message=earlier)))
            self.answer = None
            index = self.about.next
            message = self.hear(post.id, post.content)
            entries.append((index, Stored(message=message)))
        self.ctx.set("about", self.about)
        return entries

    def _rewind(self, entries: Entries) -> Entries:
        """Drop what comes after the target, and for an edit the target as well."""
        post = self.post
        users = [(i, e) for i, e in entries if e.message is not None and e.message.get("role") == "user"]
        found = [i for i, e in users if not post.target or base_id(e.id) == base_id(post.target)]
        if not found:
            raise UnknownMessage(f"{post.target or 'a message to answer again'}")
        if post.trigger == "edit" and not post.content:
            raise BadMessage("content: an edited message is not empty")
        rewind = found[-1] + (post.trigger == "regenerate")
        self.put(Stored(turn=self.about.turns, at=self.now, rewind=rewind))
        if self.about.digest is not None and rewind < self.about.digest.upto:
            self.about = msgspec.structs.replace(self.about, digest=None)
        return [(index, entry) for index, entry in entries if index < rewind]

    def _lost(self, running: Running) -> None:
        record = TurnRecord(
            invocation=running.invocation, id=running.id, first=self.first, last=self.first, status="lost",
            at=self.now, error="its invocation ended without a word",
        )  # fmt: skip
        self.ctx.set(turn_name(running.turn), record)

    async def _work(self, entries: Entries) -> AgentRun:
        messages = await self._seen(entries)
        token = _turn.set(self)
        try:
            return await converse(
                self.ctx, self.style, messages, speaker_name=self.about.agent, settings=self.post.settings,
                before_model=self._before_model, log=self.log,
            )  # fmt: skip
        finally:
            _turn.reset(token)

    async def _seen(self, entries: Entries) -> list[Message]:
        """What the model is shown of the conversation."""
        digest = self.about.digest
        rest: Sequence[tuple[int, Stored]] = [
            one for one in entries if digest is None or one[0] >= digest.upto
        ]
        if self.style.compaction is not None:
            made = await self.style.compaction.compact(self.ctx, rest, digest)
            rest = made.entries
            self._spend(made.usage, made.cost, made.model_calls)
            if made.digest != digest:
                digest = made.digest
                self.about = msgspec.structs.replace(self.about, digest=digest)
                self.ctx.set("about", self.about)
        start = [] if digest is None else [digest_message(digest)]
        if self.post.instructions:
            start.append({"role": "system", "content": self.post.instructions})
        return [*start, *mended(entry.message for _, entry in rest if entry.message is not None)]

    async def _before_model(self, _: list[Message]) -> list[Message]:
        self.save()
        added = await self.steered()
        self.saved += len(added)  # the loop adds them to the log, the history has them
        return added

    async def steered(self) -> list[Message]:
        """The messages that have come meanwhile; from now on they are part of this turn."""
        added = []
        for one in self.steering.take():
            known = await self.ctx.get(id_name(one["id"]), type_hint=Known)
            if known is None:
                added.append(self.hear(one["id"], one["content"]))
        if added:
            self.ctx.set("about", self.about)
        return added

    # -- the end

    def _spend(self, usage: Usage, cost: float | None, calls: int) -> None:
        about = self.about
        self.about = msgspec.structs.replace(
            about,
            usage=added_usage(about.usage, usage),
            cost=about.cost if cost is None else (about.cost or 0.0) + cost,
            model_calls=about.model_calls + calls,
        )

    def _end(self, status: Status, done: AgentRun | None = None, *, text: str = "", error: str = "") -> Reply:
        """Close the books; nothing here waits."""
        usage, cost = (done.usage, done.cost) if done is not None else (Usage(), None)
        self._spend(usage, cost, done.turns if done is not None else 0)
        agent = done.agent if done is not None else ""
        self.now = self.ctx.time().result()  # at hand at once, and journaled
        self.about = msgspec.structs.replace(
            self.about, running=None, agent=agent or self.about.agent, updated=self.now
        )
        record = TurnRecord(
            invocation=self.ctx.invocation_id, id=self.post.id, first=self.first, last=self.about.next,
            status=status, at=self.now, answer=self.answer, agent=agent, usage=usage, cost=cost,
            finish_reason=done.finish_reason if done is not None else "stop",
            model_calls=done.turns if done is not None else 0, error=error, metadata=self.post.metadata,
        )  # fmt: skip
        self.ctx.set(turn_name(self.about.turns), record)
        self.ctx.set("about", self.about)
        said = text if done is None else done.text
        return reply_of(self.post.id, self.about.turns, record, said, None if done is None else done.output)


async def converse(
    ctx: Any,
    style: Style,
    messages: list[Message],
    *,
    speaker_name: str = "",
    settings: Mapping[str, Any] | None = None,
    **how: Any,
) -> AgentRun:
    """Let the agent answer; `how` is that of `run_agent`."""
    agent = style.agent
    if not isinstance(agent, Agent):
        return run_of(await agent(ctx, messages))
    speaking = speaker(agent, speaker_name)
    if settings:
        speaking = replace(speaking, settings={**speaking.settings, **settings})
    return await run_agent(ctx, speaking, messages, stream=style.stream, **how)


_turn: ContextVar[Turn | None] = ContextVar("agentdur_chat_turn", default=None)


async def steered() -> list[Message]:
    """For agents written by hand: the messages that have come while this turn runs, to be put before the next
    model call. Nothing outside of a chat's turn."""
    turn = _turn.get()
    return [] if turn is None else await turn.steered()


def base_id(id: str) -> str:
    """The id of a message without what tells its edits apart: a client may keep the id of the first."""
    return id.partition("~")[0]


def begin_with(about: About | None, post: Post, now: float) -> About:
    """The books of a session as a turn finds them. SessionBusy, UnknownMessage for what cannot begin."""
    if about is None:
        if post.trigger != "message":
            raise UnknownMessage("nothing was said in this session yet")
        about = About(created=now, updated=now)
    if post.after is not None and post.after != about.turns:
        raise SessionBusy("another message came first")
    return about


def speaker(agent: Agent, name: str) -> Agent:
    """The agent of that name among those that `agent` may hand over to, however many times; itself if none:
    who answered last goes on."""
    queue, seen = [agent], {agent.name}
    while queue:
        one = queue.pop(0)
        if one.name == name:
            return one
        for target in one.targets().values():
            if isinstance(target, Agent) and target.name not in seen:
                seen.add(target.name)
                queue.append(target)
    return agent


def run_of(reply: Any) -> AgentRun:
    """What an agent written by hand answered, as a run. BadMessage when it is no answer."""
    if isinstance(reply, AgentRun):
        return reply
    if isinstance(reply, ModelAnswer):
        return AgentRun(
            output=reply.text, text=reply.text, messages=[reply.message], agent="", turns=1,
            usage=reply.usage, cost=reply.cost, finish_reason=reply.finish_reason,
        )  # fmt: skip
    if isinstance(reply, str):
        reply = [{"role": "assistant", "content": reply}]
    elif isinstance(reply, Mapping):
        reply = [dict(reply)]
    if not isinstance(reply, Sequence) or not all(isinstance(one, Mapping) for one in reply) or not reply:
        raise BadMessage(f"the agent answered {type(reply).__name__}, which is no message")
    text = text_of(reply[-1].get("content"))
    return AgentRun(output=text, text=text, messages=[dict(one) for one in reply], agent="", turns=0)


def reply_of(id: str, turn: int, record: TurnRecord, text: str, output: Any = None) -> Reply:
    """The reply that a record tells of."""
    return Reply(
        id=id, turn=turn, status=record.status, text=text,
        output=None if output == text else output,
        agent=record.agent, finish_reason=record.finish_reason, usage=record.usage, cost=record.cost,
        model_calls=record.model_calls,
    )  # fmt: skip


def added_usage(one: Usage, other: Usage) -> Usage:
    """Both together."""
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
    )
