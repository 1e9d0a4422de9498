"""A model server whose answers are written down beforehand: OpenAI's chat completions and responses, and
Google's generateContent.

Rules of this package:
1. The answer is a function of the request: whoever asks again, after a crash or a retry, gets the same
   answer.
2. Every request is in the ledger before it is answered, and the ledger survives the death of any process.
3. Faults happen on the wire, as a real provider's do: statuses, silence, cut connections, broken bodies.
4. Nothing else of agentdur is imported, so that a broken engine cannot break its judge.

Inside a test: `async with ScriptedLLM([Turn(text="hello")]) as llm: ...`; in a process of its own:
`with scripted_llm_process(script, ledger=path) as llm: ...` or `python -m agentdur.testing.scripted_llm`.
"""

from agentdur.testing.scripted_llm.ledger import Ledger, LedgerEntry, read_ledger, requests
from agentdur.testing.scripted_llm.process import ScriptedLLMProcess, scripted_llm_process
from agentdur.testing.scripted_llm.script import (
    AddedFaults,
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    NoFinish,
    Script,
    ScriptError,
    Status,
    ToolCall,
    Turn,
    Usage,
    When,
    load_script,
)
from agentdur.testing.scripted_llm.server import ScriptedLLM

__all__ = [
    "AddedFaults",
    "DropBeforeHeaders",
    "DropMidStream",
    "EmptyChoices",
    "ErrorEvent",
    "Fault",
    "Garbage",
    "Hang",
    "Ledger",
    "LedgerEntry",
    "NoFinish",
    "Script",
    "ScriptError",
    "ScriptedLLM",
    "ScriptedLLMProcess",
    "Status",
    "ToolCall",
    "Turn",
    "Usage",
    "When",
    "load_script",
    "read_ledger",
    "requests",
    "scripted_llm_process",
]
