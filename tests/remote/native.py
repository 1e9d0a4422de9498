"""A service of the server's own process, which calls one of a deployment."""

from agentdur import App, Context, Service

native = Service("Native")


@native.handler()
async def hello(ctx: Context, name: str) -> str:
    answer = await ctx.generic_call("RsSvc", "greet", b'"native"')
    return name + answer.decode()


app = App([native])
