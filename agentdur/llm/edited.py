"""What a fork asks otherwise than the run it was made from.

Rules of this file:
1. The edits are in the first entry of the journal, so every attempt asks the same.
2. They hold for whatever the fork asks anew: what it kept has its answer.
3. What cannot be told as it was edited ends the call; it is never told as it was before.
"""

from __future__ import annotations

from dataclasses import replace

from agentdur.core.edits import edits_of, retold, switched
from agentdur.llm.call import ModelCall
from agentdur.llm.errors import EditImpossible
from agentdur.sdk.context import Context, branch_of


def edited(context: Context, call: ModelCall, step: str) -> ModelCall:
    """The call as the fork wants it made. EditImpossible, or SwitchImpossible, where a framework's client
    cannot."""
    edits = edits_of(branch_of(context).attempt.recorded.input.headers)
    if not edits:
        return call
    messages, retold_by = retold(call.request.messages, edits)
    model, switched_by = switched(step, edits)
    if not retold_by and not switched_by:
        return call
    if retold_by and call.client.framework:
        raise EditImpossible(f"{step}: {call.client.framework} tells its models what it likes", 500)
    if model is not None:
        call.client.switch(model)
    request = replace(call.request, messages=messages, model=model or call.request.model)
    made = ModelCall(request, call.asked, call.under, call.client)
    made.edits = tuple(sorted((*retold_by, *switched_by)))
    return made
