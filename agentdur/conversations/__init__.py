"""The conversations of handlers that run at another server: an object that keeps them there."""

from agentdur.conversations.keeper import Asked, Conversation, conversation_object, read

__all__ = ["Asked", "Conversation", "conversation_object", "read"]
