"""Acceptance, attempts, the end and the operators, each rule removed or inverted."""

from tests.core.mutation import Mutation

# fmt: off
SUBMIT = (
    Mutation(
        "an id is accepted twice", "machine/submit.py", "submit",
        "    if state is not None:\n        return meet(state, message)\n",
        "",
    ),
    Mutation(
        "a time in the past is no time", "machine/submit.py", "submit",
        "if message.execute_at is not None:",
        "if message.execute_at is not None and message.execute_at > now:",
    ),
    Mutation(
        "an exclusive handler starts without its lock", "machine/submit.py", "submit",
        "if target.handler_kind is HandlerKind.EXCLUSIVE:",
        "if False:",
    ),
    Mutation(
        "a workflow's run is joined", "machine/submit.py", "submit",
        "if message.target.handler_kind is HandlerKind.WORKFLOW:",
        "if False:",
    ),
    Mutation(
        "a one-way submission waits for an answer", "machine/submit.py", "submit",
        "    if message.caller is None:\n        return Transition(state)\n",
        "",
    ),
    Mutation(
        "a completed one is waited for", "machine/submit.py", "submit",
        "if state.head.result is not None:",
        "if False:",
    ),
    Mutation(
        "a restart forgets what failed", "machine/submit.py", "submit",
        "failed |= (1 << entry.id) if isinstance(entry.outcome, Failure) else 0",
        "pass",
    ),
    Mutation(
        "a restart forgets its output", "machine/submit.py", "submit",
        "output = entry.result  # replayed by the handler, which then only says End",
        "pass",
    ),
)

ATTEMPT = (
    Mutation(
        "any attempt may speak", "machine/attempt.py", "attempt",
        " and inv.head.attempt == attempt",
        "",
    ),
    Mutation(
        "an attempt that failed may go on", "machine/attempt.py", "attempt",
        "inv.head.status is Status.INVOKED and inv.head.retry_at is None and",
        "inv.head.status is Status.INVOKED and",
    ),
    Mutation(
        "a suspended attempt may go on", "machine/attempt.py", "attempt",
        "inv.head.status is Status.INVOKED and inv.head.retry_at is None and",
        "inv.head.retry_at is None and",
    ),
    Mutation(
        "a start timer starts twice", "machine/attempt.py", "attempt",
        "    if inv.head.status is not Status.SCHEDULED:\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "a delayed exclusive handler skips the inbox", "machine/attempt.py", "attempt",
        "if inv.spec.target.handler_kind is HandlerKind.EXCLUSIVE:",
        "if False:",
    ),
    Mutation(
        "a retry timer wakes the paused", "machine/attempt.py", "attempt",
        "if head.status is not Status.INVOKED or head.retry_at is None or",
        "if head.retry_at is None or",
    ),
    Mutation(
        "a retry timer starts a second attempt beside the first", "machine/attempt.py", "attempt",
        "head.retry_at is None or head.attempt != message.attempt",
        "head.attempt != message.attempt",
    ),
    Mutation(
        "an old retry timer counts", "machine/attempt.py", "attempt",
        " or head.attempt != message.attempt",
        "",
    ),
    Mutation(
        "the owner's restart wakes who rested", "machine/attempt.py", "attempt",
        "    if inv.head.status is not Status.INVOKED:\n        return Transition(inv)\n    return started",
        "    return started",
    ),
    Mutation(
        "a pin moves", "machine/attempt.py", "attempt",
        "if inv.head.deployment is not None or",
        "if",
    ),
    Mutation(
        "the ended are pinned", "machine/attempt.py", "attempt",
        "if inv.head.deployment is not None or inv.head.status is not Status.INVOKED:",
        "if inv.head.deployment is not None:",
    ),
    Mutation(
        "a suspension loses what arrived before it", "machine/attempt.py", "attempt",
        "    if resolved(inv, message.awaiting, message.seen):\n        return started(inv, now)\n",
        "",
    ),
    Mutation(
        "a tree of any depth is accepted", "machine/attempt.py", "attempt",
        "if depth(message.awaiting) > NESTING_MAX:",
        "if False:",
    ),
    Mutation(
        "the limit of depth is one lower", "machine/attempt.py", "attempt",
        "if depth(message.awaiting) > NESTING_MAX:",
        "if depth(message.awaiting) >= NESTING_MAX:",
    ),
    Mutation(
        "failures survive a suspension", "machine/attempt.py", "attempt",
        "        failures=0,\n",
        "",
    ),
    Mutation(
        "a delay the handler asked for is counted", "machine/attempt.py", "failing",
        "counted = message.delay_ms is None",
        "counted = True",
    ),
    Mutation(
        "a delay the handler asked for can be the last straw", "machine/attempt.py", "failing",
        "exhausted = counted and policy.exhausted(failures)",
        "exhausted = policy.exhausted(failures)",
    ),
    Mutation(
        "an attempt that is tried again is not told", "machine/attempt.py", "failing",
        "(noted, ArmRetry(", "(ArmRetry(",
    ),
    Mutation(
        "an attempt that pauses is not told", "machine/attempt.py", "failing",
        "status=Status.PAUSED)), (noted,))", "status=Status.PAUSED)))",
    ),
    Mutation(
        "the last attempt is not told", "machine/attempt.py", "failing",
        "message.error, now, (noted,))", "message.error, now)",
    ),
    Mutation(
        "an attempt that nests too deeply is not told", "machine/attempt.py", "attempt",
        "(noted, Stop(", "(Stop(",
    ),
    Mutation(
        "exhausted attempts always pause", "machine/attempt.py", "failing",
        ' or (exhausted and not paused and policy.on_exhausted == "kill")',
        "",
    ),
    Mutation(
        "an exhausted policy ends what was to be paused", "machine/attempt.py", "failing",
        "exhausted and not paused and policy", "exhausted and policy",
    ),
    Mutation(
        "exhausted attempts go on", "machine/attempt.py", "failing",
        'if paused or exhausted:',
        'if paused:',
    ),
    Mutation(
        "a handler's wish to pause is ignored", "machine/attempt.py", "failing",
        'if paused or exhausted:',
        "if exhausted:",
    ),
    Mutation(
        "the failure of an old attempt counts", "machine/attempt.py", "failing",
        "    if not current(inv, message.attempt):\n        return Transition(inv)\n    counted",
        "    counted",
    ),
    Mutation(
        "an end without an output is silent", "machine/attempt.py", "attempt",
        "return Transition(inv, (Refuse(inv.spec.id, message.attempt, NO_OUTPUT),))",
        "return Transition(inv)",
    ),
)

FINISH = (
    Mutation(
        "the key is never given back", "machine/finish.py", "attempt",
        "if spec.target.handler_kind is HandlerKind.EXCLUSIVE:",
        "if False:",
    ),
    Mutation(
        "a record without retention stays", "machine/finish.py", "attempt",
        "if spec.completion_retention_ms <= 0:",
        "if spec.completion_retention_ms < 0:",
    ),
    Mutation(
        "a journal without retention stays", "machine/finish.py", "attempt",
        "    if not kept:\n        effects.append(DropJournal(spec.id))\n",
        "",
    ),
    Mutation(
        "a purged workflow leaves its state behind", "machine/finish.py", "operate",
        "if inv.spec.target.handler_kind is HandlerKind.WORKFLOW:",
        "if False:",
    ),
    Mutation(
        "who waits is not told", "machine/finish.py", "attempt",
        "for waiter in inv.head.waiters\n",
        "for waiter in ()\n",
    ),
    Mutation(
        "who waits is told twice", "machine/finish.py", "attempt",
        "status=Status.COMPLETED, result=result, waiters=(), ",
        "status=Status.COMPLETED, result=result, ",
    ),
    Mutation(
        "a withdrawn invocation keeps its place in line", "machine/finish.py", "operate",
        (
            "        effects.append(Send(Release(inv.spec.target.object, inv.spec.id)))\n"
            "    return Transition(None"
        ),
        "        pass\n    return Transition(None",
    ),
    Mutation(
        "a withdrawn invocation keeps its timer", "machine/finish.py", "operate",
        "        effects.append(ClearTimer(inv.spec.id, inv.spec.execute_at, 0))\n",
        "",
    ),
)

OPERATE = (
    Mutation(
        "operators are not told about the unknown", "machine/operate.py", "operate",
        "        raise UnknownInvocation(message.id)\n",
        "        pass\n",
    ),
    Mutation(
        "failures survive a new stretch", "machine/operate.py", "operate",
        "attempt=inv.head.attempt + 1, failures=0,",
        "attempt=inv.head.attempt + 1,",
    ),
    Mutation(
        "the dead are killed again", "machine/operate.py", "operate",
        "    if status is Status.COMPLETED:\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "kill before the start keeps a record", "machine/operate.py", "operate",
        "    if status in _BEFORE:\n        return withdraw(inv, KILLED)\n",
        "",
    ),
    Mutation(
        "kill spares the children", "machine/operate.py", "operate",
        "*(Send(c.Kill(child)) for child in message.children)",
        "",
    ),
    Mutation(
        "the attempt of a killed invocation goes on", "machine/operate.py", "operate",
        '(Stop(inv.spec.id, "killed"),) if status is Status.INVOKED else ()',
        "()",
    ),
    Mutation(
        "pause loses what a suspension waits for", "machine/operate.py", "operate",
        "    if status in (Status.SUSPENDED, Status.PAUSED):\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "pause of anything", "machine/operate.py", "operate",
        "    if status is not Status.INVOKED:\n",
        "    if False:\n",
    ),
    Mutation(
        "a paused invocation still backs off", "machine/operate.py", "operate",
        "head = replace(inv.head, status=Status.PAUSED, retry_at=None, modified_at=now)",
        "head = replace(inv.head, status=Status.PAUSED, modified_at=now)",
    ),
    Mutation(
        "resume before the start", "machine/operate.py", "operate",
        '        raise TooEarly(f"{who} is either inboxed or scheduled, cannot be resumed.")\n',
        "        pass\n",
    ),
    Mutation(
        "resume after the end", "machine/operate.py", "operate",
        '        raise WrongStatus(f"{who} is completed, cannot be resumed.")\n',
        "        pass\n",
    ),
    Mutation(
        "resume moves what runs", "machine/operate.py", "operate",
        '        raise WrongStatus(f"{who} is still running, its deployment cannot be changed.")\n',
        "        pass\n",
    ),
    Mutation(
        "resume moves what is not pinned", "machine/operate.py", "operate",
        "    if elsewhere and inv.head.deployment is None:\n",
        "    if False:\n",
    ),
    Mutation(
        "resume starts a second attempt beside the first", "machine/operate.py", "operate",
        "    if status is Status.INVOKED and inv.head.retry_at is None:\n        return Transition(inv)\n",
        "",
    ),
    Mutation(
        "the living are purged", "machine/operate.py", "operate",
        "    if inv.head.status is not Status.COMPLETED:\n",
        "    if False:\n",
    ),
    Mutation(
        "a purge of the journal takes the record", "machine/operate.py", "operate",
        "    if message.journal_only:\n",
        "    if False:\n",
    ),
)
# fmt: on
