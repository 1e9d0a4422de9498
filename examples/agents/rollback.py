"""Rollback: a flight and a hotel, or neither. What was booked is cancelled when the rest cannot be.

agentdur dev examples/agents/rollback.py
curl localhost:8080/Trips/book --json '{"city": "Oslo", "nights": 2}'
"""

from pydantic import BaseModel

from agentdur import App, Context, Service, TerminalError
from agentdur.patterns import Part, all_or_nothing

HOTELS = {"Oslo": 1, "Bergen": 9}
LOG: list[str] = []
"""What the outside world has seen."""


class Trip(BaseModel):
    city: str
    nights: int


def book_flight(city: str) -> str:
    LOG.append(f"flight to {city}")
    return f"F-{city}"


def cancel_flight(city: str) -> None:
    LOG.append(f"no flight to {city}")


def book_hotel(city: str, nights: int) -> str:
    if nights > HOTELS.get(city, 0):
        raise TerminalError(f"no room in {city} for {nights} nights", 409)
    LOG.append(f"hotel in {city}")
    return f"H-{city}"


def cancel_hotel(city: str, nights: int) -> None:
    LOG.append(f"no hotel in {city}")


service = Service("Trips")


@service.handler()
async def book(ctx: Context, trip: Trip) -> list[str]:
    return await all_or_nothing(
        ctx,
        Part("flight", book_flight, cancel_flight, (trip.city,)),
        Part("hotel", book_hotel, cancel_hotel, (trip.city, trip.nights)),
    )


app = App(services=[service])
