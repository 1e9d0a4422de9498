"""Patterns of agents: small compositions of runs, branches and waits, each a few lines one could write
oneself.

Where a pattern takes a *doer*, that is an Agent, a RemoteAgent, or any `async def f(ctx, given)`.
"""

from agentdur.patterns.doer import Doer, do
from agentdur.patterns.flow import Won, chain, parallel, race
from agentdur.patterns.interrupt import supersede
from agentdur.patterns.orchestrate import Plan, orchestrate
from agentdur.patterns.people import NotApproved, human_review
from agentdur.patterns.refine import Refined, Verdict, refine
from agentdur.patterns.rollback import Part, all_or_nothing
from agentdur.patterns.route import route

__all__ = [
    "Doer", "NotApproved", "Part", "Plan", "Refined", "Verdict", "Won", "all_or_nothing", "chain", "do",
    "human_review", "orchestrate", "parallel", "race", "refine", "route", "supersede",
]  # fmt: skip
