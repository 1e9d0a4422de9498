"""Every error a user can meet: whose fault it is, a stable code, and the docstring as the cure.

Each code has a page under docs/errors/. `CallerError`: the request was wrong. `HandlerError`: the handler's
code was. `StoreError`: the database could not do it. `ProtocolError`: the other side broke the rules.
"""

from __future__ import annotations

from typing import Any


class AgentdurError(Exception):
    """Base of all errors raised by agentdur."""

    code = ""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        cure = (type(self).__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        super().__init__(f"[{self.code}] {detail}. {cure}" if detail else f"[{self.code}] {cure}")


class CallerError(AgentdurError):
    """The request cannot be served as it is."""


class HandlerError(AgentdurError):
    """The handler's code asked for something that cannot be."""


class StoreError(AgentdurError):
    """The store could not do what was asked."""


class ProtocolError(AgentdurError):
    """The other side of a connection broke the protocol."""


class UnknownService(CallerError):
    """No such service is served. Check the name, or serve it."""

    code = "AD0010"


class UnknownHandler(CallerError):
    """The service is served, but not this handler. Check the name."""

    code = "AD0011"


class KeyRequired(CallerError):
    """This service is addressed by key (or is not, and a key was given). Use the form of its type."""

    code = "AD0012"


class PrivateHandler(CallerError):
    """This handler is for other handlers only. Make it public, or call it from a handler."""

    code = "AD0013"


class IdempotencyNotAllowed(CallerError):
    """A workflow's run is idempotent by its key already. Leave the idempotency key out."""

    code = "AD0014"


class UnknownInvocation(CallerError):
    """No invocation has this id, or it was purged. Check the id and the retention."""

    code = "AD0015"


class WrongStatus(CallerError):
    """The invocation is not in a status that allows this operation. Look at its status first."""

    code = "AD0016"


class TooEarly(CallerError):
    """The invocation is scheduled or pending and has not started. Wait, or cancel it."""

    code = "AD0017"


class JournalGone(CallerError):
    """The journal is no longer retained. Raise the journal retention to keep it longer."""

    code = "AD0018"


class NotForWorkflows(CallerError):
    """A workflow runs once per key and cannot be restarted as new. Start another key."""

    code = "AD0019"


class BadRequest(CallerError):
    """The request is malformed. Read the message: it names the field and what was expected."""

    code = "AD0020"


class ValueTooLarge(CallerError):
    """A value is over its limit. Send less, store it elsewhere, or raise the named setting."""

    code = "AD0021"


class Overloaded(CallerError):
    """A queue is full. Retry later, or raise the named setting."""

    code = "AD0022"


class NotRunning(CallerError):
    """The engine is stopping or has not started. Start it, or retry on its successor."""

    code = "AD0023"


class NotInHandler(HandlerError):
    """A durable operation was used outside a handler. Call it from a handler's code."""

    code = "AD0030"


class JournalMismatch(HandlerError):
    """The code no longer does what was journaled. Pin the old code, patch the new, or fork from an entry."""

    code = "AD0031"


class NotSerializable(HandlerError):
    """A value cannot be turned into bytes. Return JSON-able data, a pydantic model, or give a serde."""

    code = "AD0032"


class NestedOperation(HandlerError):
    """A context operation was used inside a step. Do it in the handler and pass the result in."""

    code = "AD0033"


class StateNotAllowed(HandlerError):
    """This handler may not do that to state or promises. Use the handler kind that may."""

    code = "AD0034"


class UnknownCallee(HandlerError):
    """The called handler is not served. Serve it; the call is retried until then."""

    code = "AD0035"


class EntryTooLarge(HandlerError):
    """A journal entry or state value is over its limit. Store the data elsewhere and journal a reference."""

    code = "AD0036"


class JournalTooLong(HandlerError):
    """The journal reached its limit of entries. Split the work into child invocations."""

    code = "AD0037"


class BadDefinition(HandlerError):
    """A service or handler is not declared correctly. Read the message: it names the place."""

    code = "AD0038"


class AttemptAborted(HandlerError):
    """The attempt did not suspend within the abort timeout. Shorten the step or raise the timeout."""

    code = "AD0039"


class ForeignFuture(HandlerError):
    """Only durable futures of this invocation can be combined. Wrap other work in ctx.run or a task."""

    code = "AD0040"


class ReservedFact(HandlerError):
    """A step notes this about itself already: the chunks it streamed. Give the fact another name."""

    code = "AD0090"


class StoreLocked(StoreError):
    """Another process has this store open. Stop it, or use another file."""

    code = "AD0050"


class StoreFull(StoreError):
    """The disk is full. Free space; nothing that was acknowledged is lost, unacknowledged work is retried."""

    code = "AD0051"


class StoreReadOnly(StoreError):
    """The store cannot be written. Check the file's and the folder's permissions."""

    code = "AD0052"


class StoreTooNew(StoreError):
    """The store was written by a newer version. Upgrade agentdur."""

    code = "AD0053"


class StoreCorrupt(StoreError):
    """The store is damaged. Restore a backup, or run sqlite3's .recover; the engine has not touched it."""

    code = "AD0054"


class StoreFailed(StoreError):
    """The store failed unexpectedly. Read the message; nothing that was acknowledged is lost."""

    code = "AD0055"


class BadStoreUrl(StoreError):
    """The store's address is not understood. Use sqlite:///file.db or memory://."""

    code = "AD0056"


class BadSetting(CallerError):
    """A setting has a value that does not fit. The message names it, its source, and what it takes."""

    code = "AD0060"


class AppNotFound(CallerError):
    """No App was found in the file. Name it as file.py:app, or define `app = App(...)`."""

    code = "AD0061"


class AddressInUse(CallerError):
    """The address cannot be listened on. Stop what uses it, or choose another port or host."""

    code = "AD0062"


class ProtocolViolation(ProtocolError):
    """The other side broke the service protocol. Use an SDK of a version that both sides speak."""

    code = "AD0070"


class MessageTooLarge(ProtocolError):
    """A message is larger than the limit of an entry. Store large data elsewhere and pass a reference."""

    code = "AD0071"


class FutureTooDeep(ProtocolError):
    """The awaited futures are nested too deeply. Wait for fewer combinators inside combinators."""

    code = "AD0072"


class DiscoveryFailed(CallerError):
    """The deployment cannot be registered. Check that an SDK's endpoint answers there, and what it serves."""

    code = "AD0080"

    def __init__(self, detail: str, status: int = 500, restate_code: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.restate_code = status, restate_code


class UnknownDeployment(CallerError):
    """There is no such deployment. List them with `agentdur deployments list`."""

    code = "AD0081"


class DeploymentInUse(CallerError):
    """Something needs the deployment, or new calls still go there. Wait until all has ended, or use force."""

    code = "AD0082"


class ConversionFailed(CallerError):
    """The deployment did not convert the value. Look at its log, and whether its SDK knows how."""

    code = "AD0217"


class BadIdentityKey(CallerError):
    """The key of request identity cannot be used. Endpoints take publickeyv1_…, servers a PEM file."""

    code = "AD0073"


class UnknownEntry(CallerError):
    """The invocation has no such journal entry, or its journal is no longer kept. List its entries first."""

    code = "AD0225"


class UnknownConversation(CallerError):
    """No messages are stored under this hash, or they were swept. Read the model step's own answer."""

    code = "AD0226"


class NotEditable(CallerError):
    """A fork cannot edit this row so. Edit its result or the input, or start again with other code."""

    code = "AD0227"


class ApprovalDecided(CallerError):
    """The approval is decided already: nothing was changed. Read what was decided, by whom and when."""

    code = "AD0120"

    def __init__(self, detail: str, record: Any = None) -> None:
        super().__init__(detail)
        self.record = record


class ApprovalForged(CallerError):
    """The decision is about something else than what was asked. Look at the approval again, then decide."""

    code = "AD0121"


class UnknownApproval(CallerError):
    """No approval has this id, or its retention is over. Check the id."""

    code = "AD0122"


class ApprovalLinkExpired(CallerError):
    """The link's time is over. Decide by the list of approvals, or ask for the question again."""

    code = "AD0123"


class BadQuery(CallerError):
    """The query is not understood. Read the message: it says where."""

    code = "AD0200"


class QueryNotAllowed(CallerError):
    """Queries only read: one SELECT of the documented tables and functions. Rewrite it with those."""

    code = "AD0201"

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


class UnknownInQuery(CallerError):
    """No such table or column. Look them up: SELECT * FROM information_schema.columns."""

    code = "AD0202"


class QueryTooLong(CallerError):
    """The query took more time than it may. Filter by id, service, key or status, or raise query-timeout."""

    code = "AD0203"


class TooManyRows(CallerError):
    """The answer has more rows than it may. Add a LIMIT, or raise query-rows-limit."""

    code = "AD0204"


class AnswerTooLarge(CallerError):
    """The answer has more bytes than it may. Ask for fewer columns or rows, or raise query-size-limit."""

    code = "AD0205"


class QueriesBusy(CallerError):
    """Too many queries wait already. Try again in a moment, or raise query-concurrency."""

    code = "AD0206"


class ArrowMissing(CallerError):
    """Arrow needs pyarrow. Install agentdur[sql], or ask with `Accept: application/json`."""

    code = "AD0207"


class QueryFailed(CallerError):
    """The database could not compute it. Read the message; nothing was changed."""

    code = "AD0208"


class QueryTooComplex(CallerError):
    """The query is too large or too deeply nested to be looked at. Split it."""

    code = "AD0209"


class CrossSite(CallerError):
    """A web page of another site sent this, and it is not done. Name the page's origin in the settings."""

    code = "AD0230"


class UnknownHost(CallerError):
    """The server was asked by a name that is not its own. Name it in allowed-hosts, or use its address."""

    code = "AD0231"


class NotSignedIn(CallerError):
    """This server asks who you are. Send a token as `Authorization: Bearer …`, or set admin-token."""

    code = "AD0232"


class NotAllowed(CallerError):
    """Your role does not allow that, and nothing was done. Ask somebody who has the role."""

    code = "AD0233"


class PayloadsHidden(CallerError):
    """What handlers were given and gave is not for your role. Ask somebody who may see it."""

    code = "AD0234"


class BadAccess(CallerError):
    """The file of tokens cannot be used. Correct what the message names, or leave access-file out."""

    code = "AD0235"


class BadTelemetry(CallerError):
    """Telemetry cannot be sent as it is set up. Correct the setting or the variable that is named."""

    code = "AD0220"


class TelemetryNotSent(AgentdurError):
    """The collector takes no telemetry: what cannot be sent is dropped. Look at its address and its log."""

    code = "AD0221"
