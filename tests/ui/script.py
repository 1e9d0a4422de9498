"""What the town's model says."""

from __future__ import annotations

from agentdur.testing.scripted_llm.script import Script, ToolCall, Turn, Usage, When

_PLANNER, _FOOD, _SUPPORT = When(system="Plan the trip"), When(system="restaurants"), When(system="customers")

_FRONT, _BILLING, _LAWYER = When(system="the front desk"), When(system="bills"), When(system="the law")


def _usage(prompt: int, completion: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


SCRIPT = Script(
    models=("gpt-4o-mini", "scripted"),
    after_last="repeat",
    turns=(
        Turn(
            when=When(last_user="Tell me a story"), chunk_chars=6, chunk_delay_ms=120,
            text="Once upon a time there was a journal" + ", and whatever it held came true again" * 200,
        ),
        Turn(
            when=When(last_user="Book me a room"), delay_ms=300,
            tool_calls=(ToolCall(name="book", arguments={"hotel": "Plaza", "nights": 1}, id="call_r"),),
        ),
        Turn(when=When(last_user="Book me a room"), text="It is booked."),
        Turn(
            when=_PLANNER, usage=_usage(412, 58), delay_ms=160,
            tool_calls=(
                ToolCall(name="weather", arguments={"city": "Bergen"}, id="call_w"),
                ToolCall(name="food", arguments={"message": "Where to eat in Bergen?"}, id="call_f"),
            ),
        ),
        Turn(
            when=_PLANNER, usage=_usage(731, 41), delay_ms=120,
            tool_calls=(ToolCall(name="book", arguments={"hotel": "Opus XVI", "nights": 2}, id="call_b"),),
        ),
        Turn(
            when=_PLANNER, usage=_usage(902, 143), delay_ms=100, chunk_delay_ms=4,
            text="Two nights at Opus XVI, the fish market for lunch, and a raincoat: showers are likely.",
        ),
        Turn(
            when=_FOOD, usage=_usage(96, 37), delay_ms=220,
            text="Try Lysverket, or the fish market if the sun is out.",
        ),
        Turn(
            when=_FRONT, usage=_usage(61, 9),
            tool_calls=(ToolCall(name="transfer_to_billing", arguments={"reason": "money"}, id="call_h"),),
        ),
        Turn(
            when=_BILLING, at=1, usage=_usage(120, 22),
            tool_calls=(
                ToolCall(name="lawyer", arguments={"message": "May she have it back?"}, id="call_l"),
                ToolCall(name="lookup", arguments={"bill": 7}, id="call_7"),
                ToolCall(name="lookup", arguments={"bill": 8}, id="call_8"),
            ),
        ),
        Turn(when=_LAWYER, usage=_usage(33, 4), text="She may."),
        Turn(when=_BILLING, at=2, usage=_usage(190, 15), text="You get your 40 € back."),
        Turn(
            when=_SUPPORT, usage=_usage(88, 20),
            tool_calls=(ToolCall(name="weather", arguments={"city": "Oslo"}, id="call_o"),),
        ),
        Turn(when=_SUPPORT, usage=_usage(131, 25), text="It is **14 °C** in Oslo, with showers."),
        Turn(when=_SUPPORT, usage=_usage(160, 12), text="2 + 2 is 4.", chunk_delay_ms=20),
    ),
)  # fmt: skip
