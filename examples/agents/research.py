"""A research agent: it reads pages, computes, and answers. It survives being killed at any moment.

    agentdur dev examples/agents/research.py
    curl localhost:8080/Research/run --json '{"text": "How much wetter is Bergen than Lisbon?"}'

RESEARCH_MODEL is the model, by LiteLLM's names. RESEARCH_LEDGER is a file in which each tool leaves a line
when it begins and when it ends, so that one can count what ran how often.
"""

import ast
import json
import operator
import os
import time

import httpx
from pydantic import BaseModel

from agentdur import App, Context, Service, TerminalError
from agentdur.llm import completion
from agentdur.tools import ToolError, run_tools, tool

MODEL = os.environ.get("RESEARCH_MODEL", "openai/gpt-5-mini")
LEDGER = os.environ.get("RESEARCH_LEDGER", os.devnull)
TURNS_MAX = 12
SYSTEM = "You answer from pages you have read, not from memory. Compute with the tool. Be brief."
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Question(BaseModel):
    text: str


class Report(BaseModel):
    answer: str
    turns: int
    tokens: int


@tool
async def read_page(url: str) -> str:
    """Read a web page.

    Args:
        url: its full address
    """
    record("begin", "read_page", url)
    async with httpx.AsyncClient(timeout=30, follow_redirects=True) as http:
        page = (await http.get(url)).raise_for_status().text[:20_000]
    record("end", "read_page", url)
    return page


@tool
def compute(expression: str) -> float:
    """Compute an arithmetic expression: numbers, + - * / and brackets."""
    record("begin", "compute", expression)
    try:
        value = evaluate(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ToolError(f"{expression}: {error}") from error
    record("end", "compute", expression)
    return value


research = Service("Research")
TOOLS = [read_page, compute]


@research.handler()
async def run(ctx: Context, question: Question) -> Report:
    """Ask the model, run the tools it wants, tell it what they said, until it answers."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.text}]
    tokens = 0
    for turn in range(1, TURNS_MAX + 1):
        answer = await completion(ctx, MODEL, messages, TOOLS)
        tokens += answer.usage.total_tokens
        if not answer.tool_calls:
            return Report(answer=answer.text, turns=turn, tokens=tokens)
        messages += [answer.message, *await run_tools(ctx, answer.tool_calls, TOOLS)]
    raise TerminalError(f"no answer after {TURNS_MAX} turns")


def evaluate(node: ast.expr) -> float:
    """Arithmetic and nothing else."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return float(OPERATORS[type(op)](evaluate(left), evaluate(right)))
    raise ToolError(f"only numbers, + - * / and brackets, not: {ast.unparse(node)}")


def record(event: str, tool_name: str, what: str) -> None:
    """One line, one write: what was begun stays on record even when the process is killed."""
    line = {"event": event, "tool": tool_name, "what": what, "pid": os.getpid(), "time": time.time()}
    with open(LEDGER, "a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(line) + "\n")


app = App(services=[research])
