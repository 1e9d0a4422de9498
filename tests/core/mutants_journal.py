"""Commands, notifications, keys, promises and arithmetic, each rule removed or inverted."""

from tests.core.mutation import Mutation

# fmt: off
PROPOSE = (
    Mutation(
        "an old attempt may still write", "machine/propose.py", "attempt",
        "    if not current(inv, message.attempt):\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "what follows a refused entry is kept", "machine/propose.py", "propose",
        "            break\n",
        "",
    ),
    Mutation(
        "a refused attempt may end", "machine/propose.py", "propose",
        "if message.end and not refused:",
        "if message.end:",
    ),
    Mutation(
        "whoever proposes ends", "machine/propose.py", "propose",
        "if message.end and not refused:",
        "if not refused:",
    ),
    Mutation(
        "an end beside the last entry without an output is silent", "machine/propose.py", "propose",
        "        draft.effects.append(Refuse(inv.spec.id, message.attempt, NO_OUTPUT))\n",
        "        pass\n",
    ),
    Mutation(
        "a result without a step is stored", "machine/propose.py", "propose",
        "if not d.open & (1 << entry.completion):",
        "if False:",
    ),
    Mutation(
        "a completed step stays open", "machine/propose.py", "propose",
        "        self.open &= ~bit\n",
        "",
    ),
    Mutation(
        "a failed step counts as a success", "machine/propose.py", "propose",
        "            self.failed |= bit\n",
        "            pass\n",
    ),
    Mutation(
        "the handler writes its own input", "machine/propose.py", "propose",
        'raise _Refused(PRECONDITION, "Input is written by the engine")',
        "d.append(entry)",
    ),
    Mutation(
        "a plain service has state", "machine/propose.py", "propose",
        "if d.inv.spec.target.service_kind is ServiceKind.SERVICE:",
        "if False:",
    ),
    Mutation(
        "a shared handler writes", "machine/propose.py", "propose",
        "if target.handler_kind is HandlerKind.SHARED:",
        "if False:",
    ),
    Mutation(
        "everyone has promises", "machine/propose.py", "propose",
        "if target.service_kind is not ServiceKind.WORKFLOW:",
        "if False:",
    ),
    Mutation(
        "a plain service takes a key", "machine/propose.py", "calls",
        "if (entry.key is not None) != (target.service_kind is not ServiceKind.SERVICE):",
        "if entry.key is None and target.service_kind is not ServiceKind.SERVICE:",
    ),
    Mutation(
        "an object is called without a key", "machine/propose.py", "calls",
        "if (entry.key is not None) != (target.service_kind is not ServiceKind.SERVICE):",
        "if entry.key is not None and target.service_kind is ServiceKind.SERVICE:",
    ),
    Mutation(
        "an empty idempotency key is one", "machine/propose.py", "calls",
        'if entry.idempotency_key == "":',
        "if False:",
    ),
    Mutation(
        "a workflow's run keeps an idempotency key", "machine/propose.py", "calls",
        "key = None if is_run else entry.idempotency_key",
        "key = entry.idempotency_key",
    ),
    Mutation(
        "an unknown callee breaks the rules for good", "machine/propose.py", "calls",
        'UNKNOWN_CALLEE = "RT0018"',
        'UNKNOWN_CALLEE = "RT0017"',
    ),
    Mutation(
        "a journal outlives its invocation", "machine/propose.py", "calls",
        "return completion, min(completion, options.journal_retention_ms)",
        "return completion, options.journal_retention_ms",
    ),
    Mutation(
        "a send for now is scheduled for 1970", "machine/propose.py", "calls",
        "isinstance(entry, j.OneWayCall) and entry.invoke_at > 0",
        "isinstance(entry, j.OneWayCall)",
    ),
    Mutation(
        "a look at an output waits for it", "machine/propose.py", "propose",
        "isinstance(entry, j.AttachInvocation)",
        "True",
    ),
    Mutation(
        "a peek at a promise waits for it", "machine/propose.py", "propose",
        "isinstance(entry, j.GetPromise)",
        "True",
    ),
)

NOTIFY = (
    Mutation(
        "a completion counts twice", "machine/notify.py", "notify",
        "if not inv.open >> message.completion & 1 or inv.head.status not in _BEGUN:",
        "if inv.head.status not in _BEGUN:",
    ),
    Mutation(
        "a completion changes what has ended", "machine/notify.py", "notify",
        "if not inv.open >> message.completion & 1 or inv.head.status not in _BEGUN:",
        "if not inv.open >> message.completion & 1:",
    ),
    Mutation(
        "any notification wakes the suspended", "machine/notify.py", "notify",
        " and resolved(after, inv.head.awaiting, inv.head.seen):",
        ":",
    ),
    Mutation(
        "no notification wakes the suspended", "machine/notify.py", "notify",
        "if status is Status.SUSPENDED and inv.head.awaiting and",
        "if False and",
    ),
    Mutation(
        "a rejection is stored as a resolution", "machine/notify.py", "notify",
        'kind = {"rejected": stored} if failure else {"signals": stored}',
        'kind = {"signals": stored}',
    ),
    Mutation(
        "the completed hear signals", "machine/notify.py", "notify",
        "    if status is Status.COMPLETED:\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "signals are kept for those who have not begun", "machine/notify.py", "notify",
        (
            "    if status in (Status.SCHEDULED, Status.INBOXED):\n"
            "        return withdraw(inv, CANCELED) if cancel else Transition(inv)\n"
        ),
        "",
    ),
    Mutation(
        "cancel does not reach those who have not begun", "machine/notify.py", "operate",
        "return withdraw(inv, CANCELED) if cancel else Transition(inv)",
        "return Transition(inv)",
    ),
    Mutation(
        "cancel does not wake the paused", "machine/notify.py", "operate",
        "if cancel and status is Status.PAUSED and stored.state is not None:",
        "if False:",
    ),
    Mutation(
        "any signal wakes the paused", "machine/notify.py", "notify",
        "if cancel and status is Status.PAUSED and",
        "if status is Status.PAUSED and",
    ),
    Mutation(
        "a look at an output waits", "machine/notify.py", "notify",
        "if inv is None or known is not None or not message.wait:",
        "if inv is None or known is not None:",
    ),
    Mutation(
        "a stored result is waited for", "machine/notify.py", "notify",
        "if inv is None or known is not None or not message.wait:",
        "if inv is None or not message.wait:",
    ),
    Mutation(
        "the unknown has no result yet", "machine/notify.py", "notify",
        "known = NOT_FOUND if inv is None else inv.head.result",
        "known = None if inv is None else inv.head.result",
    ),
)

KEYED = (
    Mutation(
        "a locked key is granted again", "machine/keyed.py", "keyed",
        "if state.locked_by is None:",
        "if True:",
    ),
    Mutation(
        "anyone can give up the lock", "machine/keyed.py", "keyed",
        "    if state.locked_by != message.id:\n        return give_up(state, message)\n",
        "",
    ),
    Mutation(
        "an edit is dropped when its turn comes", "machine/keyed.py", "keyed",
        "            effects.append(ReplaceState(message.object, place.item))\n            continue\n",
        "            continue\n",
    ),
    Mutation(
        "an edit changes state under a running handler", "machine/keyed.py", "keyed",
        "    if state.locked_by is not None:\n        return queue(state, message.object, message.edit)\n",
        "",
    ),
    Mutation(
        "positions are given twice", "machine/keyed.py", "keyed",
        "state.inbox.push(place), place.position + 1)",
        "state.inbox.push(place), len(state.inbox))",
    ),
    Mutation(
        "whoever gives up stays in line", "machine/keyed.py", "keyed",
        "rest = state.inbox.without(place)",
        "rest = state.inbox",
    ),
    Mutation(
        "a free key keeps a record", "machine/keyed.py", "keyed",
        "return None if state.locked_by is None and not len(state.inbox) else state",
        "return state",
    ),
)

PROMISE = (
    Mutation(
        "a promise is completed twice", "machine/promise.py", "promise",
        "    if taken:\n        return Transition(state, tuple(effects))\n",
        "",
    ),
    Mutation(
        "a second completion is told that it worked", "machine/promise.py", "promise",
        "outcome = ALREADY_COMPLETED if taken else VOID",
        "outcome = VOID",
    ),
    Mutation(
        "who waits for a promise is not told", "machine/promise.py", "promise",
        "for inv, cid in state.waiters]",
        "for inv, cid in ()]",
    ),
    Mutation(
        "a peek waits", "machine/promise.py", "promise",
        "    if not message.wait:\n",
        "    if False:\n",
    ),
    Mutation(
        "a completed promise is waited for", "machine/promise.py", "promise",
        "    if state.result is not None:\n",
        "    if False:\n",
    ),
)

AWAITING = (
    Mutation(
        "a spent signal counts again", "awaiting.py", "awaiting",
        "name == signal and index >= seen",
        "name == signal",
    ),
    Mutation(
        "a signal stored right after the suspension's view is lost", "awaiting.py", "awaiting",
        "name == signal and index >= seen",
        "name == signal and index > seen",
    ),
    Mutation(
        "a rejected awakeable is a success", "awaiting.py", "awaiting",
        "Resolution.UNDETERMINED if resolved_since else Resolution.FAILURE",
        "Resolution.SUCCESS",
    ),
    Mutation(
        "a failed completion is a success", "awaiting.py", "awaiting",
        "Resolution.FAILURE if inv.failed >> completion & 1 else Resolution.SUCCESS",
        "Resolution.SUCCESS",
    ),
    Mutation(
        "a race of unknown order is decided by position", "awaiting.py", "awaiting",
        "if len(set(ready)) > 1:",
        "if False:",
    ),
    Mutation(
        "all completed means any completed", "awaiting.py", "awaiting",
        "return Resolution.SUCCESS if len(ready) == len(children) else Resolution.PENDING",
        "return Resolution.SUCCESS if ready else Resolution.PENDING",
    ),
    Mutation(
        "the undetermined is waited for", "awaiting.py", "awaiting",
        "    if Resolution.UNDETERMINED in ready:\n        return Resolution.UNDETERMINED\n",
        "",
    ),
    Mutation(
        "one success does not decide", "awaiting.py", "awaiting",
        "    if one in ready:\n        return one\n",
        "",
    ),
    Mutation(
        "nested futures are not looked at", "awaiting.py", "awaiting",
        "[known[id(child)] for child in node.nested]",
        "[]",
    ),
    Mutation(
        "depth counts the root's children only", "awaiting.py", "awaiting",
        "todo += [(child, level + 1) for child in node.nested]",
        "todo += [(child, 2) for child in node.nested]",
    ),
)

RETRY = (
    Mutation(
        "the first wait is doubled already", "retry.py", "retry",
        "self.factor ** (failures - 1)",
        "self.factor**failures",
    ),
    Mutation(
        "waits grow without limit", "retry.py", "retry",
        "int(min(self.delay_ms_max, self.delay_ms_initial * self.factor ** (failures - 1)))",
        "int(self.delay_ms_initial * self.factor ** (failures - 1))",
    ),
    Mutation(
        "the first attempt is not counted", "retry.py", "retry",
        "failures >= max(1, self.attempts_max)",
        "failures > max(1, self.attempts_max)",
    ),
    Mutation(
        "no limit means no attempt", "retry.py", "retry",
        "self.attempts_max is not None and failures >= max(1, self.attempts_max)",
        "failures >= max(1, self.attempts_max or 0)",
    ),
    Mutation(
        "chance adds without bound", "retry.py", "retry",
        "JITTER_SHARE_MAX = 0.3",
        "JITTER_SHARE_MAX = 1.0",
    ),
    Mutation(
        "chance may add nothing", "retry.py", "retry",
        "max(JITTER_MS_MIN, int(delay_ms * JITTER_SHARE_MAX * chance))",
        "int(delay_ms * JITTER_SHARE_MAX * chance)",
    ),
)

FIFO = (
    Mutation(
        "the last comes first", "fifo.py", "fifo",
        "front, back = _cells(_walk(back)), None",
        "front, back = back, None",
    ),
    Mutation(
        "the line forgets who stands at its end", "fifo.py", "fifo",
        "        yield from reversed(list(_walk(self.back)))\n",
        "",
    ),
    Mutation(
        "everyone equal to each other's length is equal", "fifo.py", "fifo",
        " and list(self) == list(other)",
        "",
    ),
    Mutation(
        "equal lines are unequal as well", "fifo.py", "fifo",
        "        return not self == other\n",
        "        return self is not other\n",
    ),
    Mutation(
        "the line turns around when it is copied", "fifo.py", "fifo",
        "_cells(reversed(ordered))",
        "_cells(ordered)",
    ),
)
# fmt: on
