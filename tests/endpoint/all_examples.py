"""Every example of `examples/agents` that has a story, served by one process; their code is unchanged."""

from agentdur import App
from examples.agents import human_approval, interrupt, openai_agents_sdk
from tests.agents.stories import STORIES

apps = {story.example: story.app for story in STORIES} | {"human_approval": human_approval.app}
apps |= {"interrupt": interrupt.app, "openai_agents_sdk": openai_agents_sdk.app}
app = App(services=[service for one in apps.values() for service in one.services])
