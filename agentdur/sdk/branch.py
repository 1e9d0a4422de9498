"""Branches: each asyncio task made inside a handler has a name that is the same on every attempt.

Rules of this file:
1. The handler itself is branch "". A task is named by its parent's name, the qualified name of its coroutine,
   and a count of that name under that parent: frameworks that create a varying number of helper tasks do not
   disturb the names of the others.
2. A task made inside a step is no branch: context operations there are refused. It carries the name and the
   count of its step, so that the step's idempotency key is the same wherever the step asks for it.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from contextvars import ContextVar, copy_context
from typing import Any, Protocol, TypeVar, cast

from agentdur.core.journal import AnyCommand, ChatMessage
from agentdur.sdk.segment import Segment

T = TypeVar("T")

ROOT = ""
CANCEL_BRANCH = "~cancel"
TOLD_BRANCH = "~told"
NOT_MADE = frozenset({CANCEL_BRANCH, TOLD_BRANCH})
"""Branches that no code makes (`sdk.cancel`, `sdk.told`): a replay reads what is recorded of them."""
_SIGNALS_OF_BRANCHES = 1 << 31


class Owner(Protocol):
    """What a branch needs of its attempt."""

    seed: int
    next_label: str | None

    def recorded_of(self, name: str) -> list[tuple[int, AnyCommand]] | None:
        """The recorded commands of a branch, last one first."""

    def adopt(self, child: Branch, task: asyncio.Task[Any]) -> None:
        """A task was made for this branch."""


class Branch:
    """One line of execution of an attempt. Mutable, owned by its task."""

    # What most branches never change stays on the class: making one is on the path of every invocation.
    parent: Branch | None = None
    counts: dict[str, int] | None = None
    in_step = False
    stop_step = False
    acting: Any = None
    """The step whose action runs here."""
    awaitables = 0
    passed = 0
    """The journal index up to which a replay has come here."""
    cancels_seen: int = 0
    rng: random.Random | None = None
    waiting: Any = None
    note = ""
    segment: Segment | None = None
    """What the step that runs here has streamed."""
    dropped: Segment | None = None
    """What the last step that was interrupted here had streamed."""
    messages: tuple[ChatMessage, ...] = ()
    """Conversations that the note refers to."""
    steps = 0

    def __init__(self, attempt: Any, name: str, parent: Branch | None) -> None:
        self.attempt, self.name = attempt, name  # an Owner; Any for its other callers
        self.recorded: list[tuple[int, AnyCommand]] | None = attempt.recorded_of(name)
        if parent is not None:
            self.parent, self.cancels_seen = parent, parent.cancels_seen

    def count(self, label: str) -> int:
        """How many of that label there were in this branch before; the same on every attempt."""
        if self.counts is None:
            self.counts = {}
        count = self.counts.get(label, 0)
        self.counts[label] = count + 1
        return count

    def child(self, label: str) -> Branch:
        """The next branch of that label under this one."""
        count = self.count(label)
        suffix = f"#{count}" if count else ""
        prefix = f"{self.name}/" if self.name else ""
        return Branch(self.attempt, f"{prefix}{label}{suffix}", self)

    def within(self) -> Branch:
        """For a task or a thread of the step that runs here: it belongs to that step, also when it outlives
        it."""
        child = Branch(self.attempt, self.name, self)
        child.in_step, child.acting = True, self.acting
        return child

    def next_signal(self) -> int:
        """The signal index of the next awakeable: 17, 18, … in the handler itself; elsewhere a number that
        depends on the branch's name only, as the order in which branches come here may vary."""
        count = self.awaitables
        self.awaitables = count + 1
        if self.name == ROOT:
            return 17 + count
        return _SIGNALS_OF_BRANCHES | (
            zlib.crc32(f"{self.name}\n{count}".encode()) & (_SIGNALS_OF_BRANCHES - 1)
        )

    def random(self) -> random.Random:
        """The branch's own generator, the same on every attempt."""
        if self.rng is None:
            seed = self.attempt.seed
            self.rng = random.Random(seed if self.name == ROOT else f"{seed}/{self.name}")
        return self.rng


_branch: ContextVar[Branch | None] = ContextVar("agentdur_branch", default=None)


current_branch = _branch.get
"""The branch whose code is running, or None outside of handlers. Bound to C: every operation asks."""


def enter(branch: Branch | None) -> None:
    """Make `branch` the current one of the running task."""
    _branch.set(branch)


def label_of(coro: Coroutine[Any, Any, Any] | Any) -> str:
    """The qualified name of a coroutine, without the part that says where it was defined."""
    name = getattr(coro, "__qualname__", None) or type(coro).__qualname__
    return str(name).replace(".<locals>", "").replace("/", "|")


def spawn(label: str, coro: Coroutine[Any, Any, T], under: Branch | None = None) -> asyncio.Task[T]:
    """A task whose branch is named by the caller, who knows a name that is the same on every attempt.
    `under`: the branch it shall belong to, instead of the one that runs."""
    parent = under or _branch.get()
    if parent is not None and not parent.in_step:
        parent.attempt.next_label = label.replace("/", "|")
    create = asyncio.get_running_loop().create_task
    if under is None:
        return create(coro)
    context = copy_context()
    context.run(_branch.set, under)
    return context.run(create, coro)


Factory = Callable[..., asyncio.Task[Any]]


class BranchTaskFactory:
    """Gives tasks made inside a handler their branch; chains to the factory that was there."""

    def __init__(self, inner: Factory | None) -> None:
        self.inner = inner
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: ContextVars | None = None, **more: Any
    ) -> asyncio.Task[Any]:
        parent = _branch.get()
        if parent is None:
            return self._make(loop, coro, context, more)
        context = context or copy_context()
        if parent.in_step:
            context.run(_branch.set, parent.within())
            return self._make(loop, coro, context, more)
        child = parent.child(parent.attempt.next_label or label_of(coro))
        parent.attempt.next_label = None
        context.run(_branch.set, child)
        task = self._make(loop, coro, context, more)
        parent.attempt.adopt(child, task)
        return task

    def _make(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: ContextVars | None, more: dict[str, Any]
    ) -> asyncio.Task[Any]:
        if self.inner is not None:
            return self.inner(loop, coro, **({"context": context} if context else {}), **more)
        return asyncio.Task(coro, loop=loop, context=context, **more)


def install(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Put the factory on a loop; the answer takes it off again, when nobody else on this loop needs it."""
    factory = loop.get_task_factory()
    if not isinstance(factory, BranchTaskFactory):
        factory = BranchTaskFactory(cast("Factory | None", factory))
        loop.set_task_factory(factory)
    factory.users += 1
    installed = factory

    def uninstall() -> None:
        installed.users -= 1
        if installed.users == 0 and loop.get_task_factory() is installed:
            loop.set_task_factory(installed.inner)

    return uninstall
