"""A reader as every client may be one: it keeps chunks by their run, and drops what became void."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from agentdur.core import journal as j
from agentdur.core.ports import StreamEvent

Chunks = dict[int, list[Any]]


class Listener:
    """What has been heard of one invocation, over any number of connections."""

    def __init__(self) -> None:
        self.chunks: Chunks = defaultdict(list)
        self.after: str | None = None
        self.end: Any = None
        self.events: list[StreamEvent] = []

    def hear(self, event: StreamEvent) -> None:
        assert self.end is None, f"{event} after the end"
        self.events.append(event)
        self.after = event.id
        if event.kind == "chunk":
            self.chunks[event.run].append(event.data)
        elif event.kind == "void":
            self.chunks.pop(event.run, None)
        elif event.kind == "end":
            self.end = event.data

    @property
    def said(self) -> Chunks:
        return {run: joined(chunks) for run, chunks in self.chunks.items()}

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, step: str) -> list[Any]:
        """All chunks of the steps of this name that count."""
        runs = dict.fromkeys(event.run for event in self.events if event.step == step)
        return joined([chunk for run in runs for chunk in self.chunks.get(run, [])])


def joined(chunks: list[Any]) -> list[Any]:
    """Written anew, so that the engine's own way to join is not its judge: neighbours that are strings, or
    equal but for their deltas, are one."""
    out: list[Any] = []
    for chunk in chunks:
        before = out[-1] if out else None
        if isinstance(chunk, str) and isinstance(before, str):
            out[-1] = before + chunk
        elif (
            isinstance(chunk, dict)
            and isinstance(before, dict)
            and isinstance(chunk.get("delta"), str)
            and isinstance(before.get("delta"), str)
            and {**chunk, "delta": ""} == {**before, "delta": ""}
        ):
            out[-1] = {**before, "delta": before["delta"] + chunk["delta"]}
        else:
            out.append(chunk)
    return out


def journaled(entries: list[tuple[int, j.Entry]]) -> Chunks:
    """What the journal says was streamed, by run."""
    names: dict[int, str] = {}
    out: Chunks = {}
    for _, entry in entries:
        if isinstance(entry, j.Run):
            names[entry.completion] = entry.name
        elif isinstance(entry, j.Completion) and entry.of == "Run":
            chunks = json.loads(entry.meta or "{}").get("stream")
            if chunks is None and names[entry.id] == "stream":
                assert isinstance(entry.outcome, j.Success)
                chunks = [json.loads(entry.outcome.value or "null")]
            if chunks:
                out[entry.id] = chunks
    return out
