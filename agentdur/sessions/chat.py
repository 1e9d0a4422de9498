"""A chat session as a virtual object: one key is one session, and its inbox is the queue of messages.

Rules of this file:
1. Turns are exclusive: one at a time per session, in the order in which their messages came.
2. What a message does to a running turn is decided by a shared handler, beside it: that is one invocation
   more, and survives crashes as all do.
3. The message is in the inbox before a running turn is told of it: it is answered, whoever comes first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from agentdur.agent import Agent
from agentdur.core.errors import BadDefinition
from agentdur.sdk.cancel import CANCELLED
from agentdur.sdk.combine import select
from agentdur.sdk.context import ObjectContext, ObjectSharedContext
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.kept import read_kept
from agentdur.sdk.service import VirtualObject
from agentdur.sessions.compaction import Compaction
from agentdur.sessions.errors import BadMessage, SessionBusy
from agentdur.sessions.history import mended, shown
from agentdur.sessions.journaled import interrupted_text
from agentdur.sessions.steering import STEER
from agentdur.sessions.turn import Converse, Style, Turn, begin_with, converse, read_log, reply_of
from agentdur.sessions.words import (
    About,
    Conversation,
    History,
    Known,
    Page,
    Policy,
    Post,
    Posted,
    Reply,
    Running,
    Stored,
    TurnRecord,
    id_name,
    message_name,
    text_of,
    turn_name,
)

Said: TypeAlias = Post | str
POLICIES: tuple[Policy, ...] = ("enqueue", "interrupt", "steer", "reject")
PAGE_MAX = 1000
"""Messages in one page of a history."""
SETTINGS = frozenset(
    {
        "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
        "frequency_penalty", "reasoning_effort",
    }
)  # fmt: skip
"""What a message may set for the model of its turn."""
_SURE = timedelta(milliseconds=200)
"""How long the end of a turn is waited for before it is believed to run."""
_NOT_KEPT: dict[str, Any] = {"journal_retention": timedelta(0)}
"""Who only reads leaves no trace."""


class Chat(VirtualObject):
    """A virtual object whose keys are chat sessions. Made by `chat`.

    Handlers: `turn` (exclusive: a message in, its answer out), and beside it `post` (a message, by the
    session's policy; answers at once), `regenerate`, `edit`, `stop`, `about`, `history`; `clear`
    (exclusive); `complete` answers a conversation that the caller remembers.
    Each is an attribute of the same name, to be handed to `object_call` and `object_send`.
    """

    def __init__(self, name: str, style: Style, *, policy: Policy, ttl: timedelta | None) -> None:
        description = style.agent.description if isinstance(style.agent, Agent) else None
        super().__init__(name, description=description or None)
        self.style, self.policy, self.ttl = style, policy, ttl
        _exclusive(self)
        _shared(self)

    turn: Any
    post: Any
    regenerate: Any
    edit: Any
    stop: Any
    about: Any
    history: Any
    clear: Any
    expire: Any
    complete: Any


def chat(
    agent: Agent | Converse,
    *,
    name: str = "",
    policy: Policy = "enqueue",
    compaction: Compaction | None = None,
    ttl: timedelta | None = None,
    stream: bool = True,
) -> Chat:
    """Chat sessions with an agent, one per key: serve it in an App, and `/sessions/{name}/{key}` is there.

    `agent`: an Agent, or an async function of (ctx, messages) that answers text, a message or several.
    `name`: the service's, and the model's on the OpenAI-compatible routes; by default the agent's. `policy`:
    what a message does that comes while the agent works; `enqueue` (it waits for its turn), `interrupt` (the
    running turn is cancelled, and what it had said is kept), `steer` (the message is put before the next
    model call of the running turn) or `reject` (SessionBusy). `compaction`: Window or Summary. `ttl`: a
    session to which nothing was said for so long clears itself. `stream`: models are asked for streams.
    """
    name = name or (agent.name if isinstance(agent, Agent) else getattr(agent, "__name__", ""))
    if not isinstance(agent, Agent) and not callable(agent):
        raise BadDefinition(f"chat '{name}': {agent!r} is neither an Agent nor an async function")
    if policy not in POLICIES:
        raise BadDefinition(f"chat '{name}': the policy is one of {', '.join(POLICIES)}, not {policy!r}")
    if ttl is not None and ttl <= timedelta(0):
        raise BadDefinition(f"chat '{name}': ttl is a time to live, not {ttl}")
    style = Style(agent=agent, compaction=compaction, stream=stream)
    return Chat(name, style, policy=policy, ttl=ttl)


def _exclusive(chat: Chat) -> None:
    @chat.handler()
    async def turn(ctx: ObjectContext, message: Said) -> Reply:
        """Take a message and answer it; other messages of this session wait meanwhile."""
        post = as_post(message, str(ctx.uuid()))
        about = await ctx.get("about", type_hint=About)
        known = await ctx.get(id_name(post.id), type_hint=Known)
        if known is not None:
            return await _said_before(ctx, post, known)
        now = await ctx.time()
        about = begin_with(about, post, now)
        if chat.ttl is not None and not about.expiring:
            ctx.object_send(chat.expire, ctx.key(), about.created, send_delay=chat.ttl)
            about = msgspec.structs.replace(about, expiring=True)
        return await Turn(ctx, chat.style, post, about, now).run()

    @chat.handler()
    async def clear(ctx: ObjectContext) -> bool:
        """Forget the session; False when there was none."""
        there = await ctx.get("about", type_hint=About) is not None
        if there:
            ctx.clear_all()
        return there

    @chat.handler(ingress_private=True)
    async def expire(ctx: ObjectContext, created: float) -> bool:
        """Forget the session if its time is up, else come again."""
        about = await ctx.get("about", type_hint=About)
        if about is None or about.created != created or chat.ttl is None:
            return False  # deleted meanwhile, perhaps begun anew
        left = about.updated + chat.ttl.total_seconds() - await ctx.time()
        if left > 0:
            ctx.object_send(chat.expire, ctx.key(), created, send_delay=timedelta(seconds=left))
            return False
        ctx.clear_all()
        return True

    chat.turn, chat.clear, chat.expire = turn, clear, expire


def _shared(chat: Chat) -> None:
    @chat.handler(kind="shared")
    async def post(ctx: ObjectSharedContext, message: Said) -> Posted:
        """Take a message by the policy, and say which invocation will answer it."""
        return await _admit(ctx, chat, as_post(message, str(ctx.uuid())))

    @chat.handler(kind="shared")
    async def regenerate(ctx: ObjectSharedContext, message: Post = Post()) -> Posted:  # noqa: B008  # frozen
        """Drop the answer to a message, the last one unless `target` names another, and answer it anew."""
        again = msgspec.structs.replace(message, trigger="regenerate")
        return await _admit(ctx, chat, as_post(again, str(ctx.uuid())))

    @chat.handler(kind="shared")
    async def edit(ctx: ObjectSharedContext, message: Post) -> Posted:
        """Put another message in the place of one, and drop all that came after it."""
        other = msgspec.structs.replace(message, trigger="edit")
        return await _admit(ctx, chat, as_post(other, str(ctx.uuid())))

    @chat.handler(kind="shared")
    async def stop(ctx: ObjectSharedContext) -> bool:
        """Interrupt the running turn; False when none runs."""
        about = await ctx.get("about", type_hint=About)
        if about is None or about.running is None:
            return False
        ctx.cancel_invocation(about.running.invocation)
        return True

    @chat.handler(kind="shared")
    async def complete(ctx: ObjectSharedContext, asked: Conversation) -> Reply:
        """Answer a conversation that the caller remembers; the session of this key is not touched."""
        check_settings(asked.settings)
        id = str(ctx.uuid())
        try:
            run = await converse(ctx, chat.style, mended(asked.messages), settings=asked.settings)
        except TerminalError as error:
            if error.status_code != 409 or error.message != CANCELLED:
                raise
            return Reply(id=id, turn=0, status="interrupted", text=interrupted_text(ctx))
        return Reply(
            id=id, turn=0, status="completed", text=run.text,
            output=None if run.output == run.text else run.output, agent=run.agent, usage=run.usage,
            cost=run.cost, finish_reason=run.finish_reason, model_calls=run.turns,
        )  # fmt: skip

    @chat.handler(name="about", kind="shared", **_NOT_KEPT)
    async def tell(ctx: ObjectSharedContext) -> About | None:
        """What is known of the session; null when there is none."""
        return await ctx.get("about", type_hint=About)

    @chat.handler(kind="shared", **_NOT_KEPT)
    async def history(ctx: ObjectSharedContext, page: Page = Page()) -> History:  # noqa: B008  # frozen
        """The messages, oldest first."""
        about = await ctx.get("about", type_hint=About)
        log = [] if about is None else await read_log(ctx, about.next)
        return page_of(log, page)

    chat.post, chat.regenerate, chat.edit, chat.stop = post, regenerate, edit, stop
    chat.about, chat.history, chat.complete = tell, history, complete


def as_post(message: Said, id: str) -> Post:
    """A message with an id, whatever form it came in."""
    post = Post(content=message) if isinstance(message, str) else message
    check_settings(post.settings)
    return post if post.id else msgspec.structs.replace(post, id=id)


def check_settings(settings: dict[str, Any]) -> None:
    """BadMessage for what a caller may not set."""
    unknown = sorted(settings.keys() - SETTINGS)
    if unknown:
        may = ", ".join(sorted(SETTINGS))
        raise BadMessage(f"settings: {unknown[0]} is the agent's matter; what may be set is {may}")


def page_of(log: list[tuple[int, Stored]], page: Page) -> History:
    """One page of a history."""
    every = [one for one in shown(log) if one.index > page.after and (page.audit or not one.dropped)]
    limit = max(1, min(page.limit, PAGE_MAX))
    rest = every[:limit]
    return History(messages=rest, after=rest[-1].index if len(every) > limit else None)


async def _admit(ctx: ObjectSharedContext, chat: Chat, post: Post) -> Posted:
    about = await ctx.get("about", type_hint=About)
    running = about.running if about is not None else None
    known = await ctx.get(id_name(post.id), type_hint=Known)
    if known is not None:
        return await _posted_before(ctx, post, known, running)
    policy = post.policy or chat.policy
    after = None
    if policy == "reject":
        if running is not None and await _runs(ctx, running):
            raise SessionBusy(f"turn {running.turn} runs")
        after = 0 if about is None else about.turns
    if policy == "interrupt" and running is not None:
        ctx.cancel_invocation(running.invocation)
    post = msgspec.structs.replace(post, policy=None, after=after)
    sent = ctx.object_send(chat.turn, ctx.key(), post, idempotency_key=f"message/{post.id}")
    invocation = await sent.invocation_id()
    into = ""
    if policy == "steer" and running is not None and post.trigger == "message":
        into = running.invocation
        ctx.resolve_signal(into, STEER, {"id": post.id, "content": post.content})
    return Posted(id=post.id, invocation=invocation, into=into)


async def _runs(ctx: ObjectSharedContext, running: Running) -> bool:
    """A turn that was killed could not say that it ended."""
    try:
        ended = ctx.attach_invocation(running.invocation, type_hint=object)
        first, _ = await select(ended=ended, still=ctx.sleep(_SURE))
    except TerminalError as error:
        if error.message == CANCELLED and error.status_code == 409:
            raise
        return False
    return bool(first == "still")


async def _posted_before(
    ctx: ObjectSharedContext, post: Post, known: Known, running: Running | None
) -> Posted:
    if running is not None and running.turn == known.turn:
        return Posted(id=post.id, invocation=running.invocation)
    record = await ctx.get(turn_name(known.turn), type_hint=TurnRecord)
    return Posted(id=post.id, invocation=record.invocation if record is not None else "")


async def _said_before(ctx: ObjectContext, post: Post, known: Known) -> Reply:
    """The same message again, or one that a running turn has taken: the answer it had."""
    record = await ctx.get(turn_name(known.turn), type_hint=TurnRecord)
    if record is None:
        return Reply(id=post.id, turn=known.turn, status="lost")
    text = ""
    if record.answer is not None:
        [raw] = await read_kept(ctx, [message_name(record.answer)])
        stored = msgspec.json.decode(raw, type=Stored) if raw else Stored()
        text = text_of((stored.message or {}).get("content"))
    reply = reply_of(post.id, known.turn, record, text)
    return reply if record.id == post.id else msgspec.structs.replace(reply, status="steered")
