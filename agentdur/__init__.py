"""agentdur: AI agents that survive crashes, in plain asyncio."""

from agentdur.core.errors import AgentdurError, JournalMismatch, NotInHandler
from agentdur.sdk.approval import Approval
from agentdur.sdk.combine import as_completed, gather, race, select, wait_completed
from agentdur.sdk.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Request,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.sdk.exceptions import HttpError, RetryableError, TerminalError
from agentdur.sdk.saga import Saga
from agentdur.sdk.service import Service, VirtualObject, Workflow
from agentdur.sdk.service_options import InvocationRetryPolicy
from agentdur.sdk.step import current_context, step
from agentdur.sdk.steps import RunOptions
from agentdur.server import App

__all__ = [
    "AgentdurError",
    "App",
    "Approval",
    "Context",
    "HttpError",
    "InvocationRetryPolicy",
    "JournalMismatch",
    "NotInHandler",
    "ObjectContext",
    "ObjectSharedContext",
    "Request",
    "RetryableError",
    "RunOptions",
    "Saga",
    "Service",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "as_completed",
    "current_context",
    "gather",
    "race",
    "select",
    "step",
    "wait_completed",
]
