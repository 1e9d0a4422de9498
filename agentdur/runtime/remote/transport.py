"""How an attempt elsewhere is reached: exchanges of bytes, told by callbacks on the engine's loop."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

Kind = Literal["connect", "reset", "timeout", "protocol", "refused", "failed"]
Headers = list[tuple[str, str]]


class TransportFailed(Exception):
    """The exchange is over before its end. `kind` says how."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Address(Struct, frozen=True):
    """Where a deployment is: scheme, host, port, path and query of its URI."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""
    http1: bool = False
    query: str = ""

    def path_to(self, path: str) -> str:
        """A path of the service protocol, below the deployment's own; its query goes with each request."""
        return f"{self.path}{path}?{self.query}" if self.query else f"{self.path}{path}"

    @property
    def authority(self) -> str:
        """host:port, without the port that the scheme has anyway."""
        usual = {"http": 80, "https": 443}[self.scheme]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == usual else f"{host}:{self.port}"


class Function(Struct, frozen=True):
    """An AWS Lambda function: its qualified ARN, and the role in which it is called."""

    arn: str
    region: str
    role: str | None = None


Place: TypeAlias = Address | Function


class Receiver(Protocol):
    """Hears of an exchange. `ended` or `lost` comes once, and nothing after it."""

    def response(self, status: int, headers: dict[str, str]) -> None:
        """The head of the answer."""

    def data(self, chunk: bytes) -> None:
        """Bytes of the answer; `Exchange.consumed` gives the peer room for more."""

    def ended(self) -> None:
        """The answer is complete."""

    def lost(self, error: TransportFailed) -> None:
        """It will never be complete."""


class Exchange(Protocol):
    """One request and its answer, both flowing at the same time where the protocol can."""

    def write(self, data: bytes) -> None:
        """Send; waits here for the peer's window."""

    def end(self) -> None:
        """The request is complete."""

    def consumed(self, size: int) -> None:
        """That many bytes of the answer are done with."""

    def abort(self) -> None:
        """Drop it; the receiver hears nothing more."""


class Transport(Protocol):
    """Connections to one deployment."""

    bidirectional: bool

    def open(self, method: str, path: str, headers: Headers, receiver: Receiver) -> Exchange:
        """Begin an exchange. Never raises: trouble is told to the receiver."""

    async def close(self) -> None:
        """Drop all connections."""
