"""Chat sessions: one virtual object per session, with history, policies, compaction and a time to live.

support = chat(agent, policy="interrupt")
app = App(services=[support])                  # and /sessions/support/{id}/messages is there
"""

from agentdur.sessions.chat import Chat, chat
from agentdur.sessions.compaction import Summary, Window
from agentdur.sessions.errors import BadMessage, SessionBusy, UnknownAgent, UnknownMessage, UnknownSession
from agentdur.sessions.serving import session_guests
from agentdur.sessions.turn import steered
from agentdur.sessions.words import About, History, Page, Post, Posted, Reply, Shown

__all__ = [
    "About", "BadMessage", "Chat", "History", "Page", "Post", "Posted", "Reply", "SessionBusy", "Shown",
    "Summary", "UnknownAgent", "UnknownMessage", "UnknownSession", "Window", "chat", "session_guests",
    "steered",
]  # fmt: skip
