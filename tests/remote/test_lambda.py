"""Deployments that are AWS Lambda functions: the Invoke API is a stand-in, the functions are real SDKs."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from backports import zstd
from fastapi import FastAPI, Request, Response
from restate.aws_lambda import wrap_asgi_as_lambda_handler

from agentdur import App, Context, Service
from agentdur.admin.app import create_admin
from agentdur.config import Settings
from agentdur.core import journal as j
from agentdur.core.ports import Request as Asked
from agentdur.runtime.owner import Engine
from agentdur.runtime.remote.awslambda import COMPRESSED_BYTES_MIN, event_for, parse_answer
from agentdur.runtime.remote.transport import TransportFailed
from tests.http.serving import lent
from tests.remote.sdk_services import app as sdk_app

pytestmark = pytest.mark.slow
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:agents:7"
ROLE = "arn:aws:iam::123456789012:role/caller"
MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"
far, near = Service("Far"), Service("Near")


@far.handler()
async def work(ctx: Context, name: str) -> list[str]:
    first = await ctx.run("first", lambda: f"hello {name}")
    far_away = await ctx.generic_call("Near", "shout", json.dumps(first).encode())
    return [first, json.loads(far_away)]


@far.handler()
async def length(ctx: Context, data: bytes) -> int:
    return len(data)


@near.handler()
async def shout(ctx: Context, text: str) -> str:
    return text.upper()


class Aws:
    """What a server asks of AWS: calls of functions, one at a time each, and roles."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.functions: dict[str, Callable[[Any, Any], Any]] = {}
        self.roles: list[str] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.thread = ThreadPoolExecutor(1)
        self.app.post("/2015-03-31/functions/{arn}/invocations")(self.invoke)
        self.app.post("/")(self.assume_role)

    async def invoke(self, arn: str, request: Request) -> Response:
        event = await request.json()
        self.seen.append((request.headers["authorization"], event))
        if arn not in self.functions:
            kind = {"x-amzn-errortype": "ResourceNotFoundException"}
            return Response('{"Message": "no such function"}', 404, kind)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self.thread, self.functions[arn], event, None)
        except Exception as error:  # as Lambda tells it
            return Response(
                json.dumps({"errorMessage": str(error)}), 200, {"x-amz-function-error": "Unhandled"}
            )
        return Response(json.dumps(answer))

    async def assume_role(self, request: Request) -> Response:
        asked = parse_qs((await request.body()).decode())
        self.roles += asked["RoleArn"]
        text = (
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASSUMED</AccessKeyId>"
            "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            "<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>"
            "</AssumeRoleResponse>"
        )
        return Response(text, media_type="text/xml")


class Cloud:
    """A server, and the functions that it may call."""

    def __init__(self, aws: Aws, http: httpx.AsyncClient, engine: Engine) -> None:
        self.aws, self.http, self.engine = aws, http, engine

    async def call(self, service: str, handler: str, value: str = "") -> str:
        target = self.engine.catalog.target(service, handler)
        assert target is not None
        _, answer = self.engine.call(Asked(target=target, value=value.encode()))
        result = (await asyncio.wait_for(answer, 20)).result
        assert isinstance(result, j.Success), result
        return result.value.decode()

    async def register(self, **body: Any) -> httpx.Response:
        return await self.http.post("/deployments", json={"arn": ARN, **body})


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    aws = Aws()
    with lent(aws.app) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OURS")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        settings = Settings(default_retry_policy_initial_interval=timedelta(milliseconds=20))
        async with App([near]).running("memory://", settings=settings) as engine:
            app = create_admin(engine, deployments=engine.deployments)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as http:
                yield Cloud(aws, http, engine)


async def test_our_own_handlers_as_a_function(cloud: Cloud):
    """A step, and a call of a handler of the server's own: it leaves to wait, and is called again."""
    cloud.aws.functions[ARN] = App([far]).endpoint().lambda_handler()
    made = await cloud.register(metadata={"team": "blue"})
    assert made.status_code == 201, made.text
    shown = (await cloud.http.get(f"/deployments/{made.json()['id']}")).json()
    assert (shown["arn"], shown["metadata"]) == (ARN, {"team": "blue"})
    assert not {"uri", "protocol_type", "http_version", "assume_role_arn", "compression"} & shown.keys()
    assert await cloud.call("Far", "work", '"bob"') == '["hello bob","HELLO BOB"]'
    paths = [event["path"] for _, event in cloud.aws.seen]
    assert paths[0] == "/discover"
    assert set(paths[1:]) == {"/invoke/Far/work"}
    assert len(paths) > 2
    assert "Credential=OURS/" in cloud.aws.seen[0][0]


async def test_the_handlers_of_another_sdk_as_a_function(cloud: Cloud):
    make = partial(wrap_asgi_as_lambda_handler, sdk_app)
    cloud.aws.functions[ARN] = cloud.aws.thread.submit(make).result()  # where its loop shall run
    made = await cloud.register()
    assert made.status_code == 201, made.text
    assert await cloud.call("RsSvc", "greet", '"bob"') == '"bob!"'
    assert await cloud.call("RsSvc", "parallel", "3") == "[0, 1, 2]"
    assert await cloud.call("RsSvc", "either") == '"too late"'


async def test_a_function_is_called_in_a_role(cloud: Cloud):
    cloud.aws.functions[ARN] = App([far]).endpoint().lambda_handler()
    made = await cloud.register(assume_role_arn=ROLE)
    assert made.status_code == 201, made.text
    assert cloud.aws.roles == [ROLE]
    assert "Credential=ASSUMED/" in cloud.aws.seen[0][0]
    shown = (await cloud.http.get(f"/deployments/{made.json()['id']}")).json()
    assert shown["assume_role_arn"] == ROLE


async def test_a_deployment_moves_to_the_next_version_of_its_function(cloud: Cloud):
    cloud.aws.functions[ARN] = cloud.aws.functions[ARN[:-1] + "8"] = App([far]).endpoint().lambda_handler()
    made = (await cloud.register()).json()["id"]
    moved = await cloud.http.patch(f"/deployments/{made}", json={"arn": ARN[:-1] + "8"})
    assert (moved.status_code, moved.json()["arn"]) == (200, ARN[:-1] + "8")
    del cloud.aws.functions[ARN]
    assert await cloud.call("Far", "length", "1234") == "4"


async def test_a_function_that_fails_is_tried_again(cloud: Cloud):
    real, failures = (
        App([far]).endpoint().lambda_handler(),
        [ValueError("out of memory"), {"body": 7}, {"statusCode": 500}],
    )
    cloud.aws.functions[ARN] = real
    await cloud.register()

    def flaky(event: Any, context: Any) -> Any:
        if not failures:
            return real(event, context)
        trouble = failures.pop()
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

    cloud.aws.functions[ARN] = flaky
    assert await cloud.call("Far", "length", "1234") == "4"
    assert not failures


def streaming(event: Any, context: Any) -> Any:
    handlers = [{"name": "a"}]
    manifest = {
        "protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7,
        "services": [{"name": "Far", "ty": "SERVICE", "handlers": handlers}],
    }  # fmt: skip
    return {"statusCode": 200, "headers": {"Content-Type": MANIFEST}, "body": json.dumps(manifest)}


def broken(event: Any, context: Any) -> Any:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("body", "function", "status", "code"),
    [
        ({"arn": "arn:aws:lambda:eu-central-1:123456789012:function:agents"}, None, 400, None),
        pytest.param({"arn": "http://localhost"}, None, 400, None, marks=pytest.mark.slow),
        pytest.param({"assume_role_arn": "me"}, None, 400, None, marks=pytest.mark.slow),
        ({}, streaming, 500, "META0015"),
        pytest.param({}, broken, 500, "META0003", marks=pytest.mark.slow),
        ({}, lambda event, context: "hello", 500, "META0003"),
    ],
    ids=["no version", "no arn", "no role", "streaming", "broken", "no answer"],
)
async def test_what_is_no_function_of_handlers_is_refused(
    cloud: Cloud, body: dict[str, Any], function: Any, status: int, code: str | None
):
    if function is not None:
        cloud.aws.functions[ARN] = function
    answer = await cloud.register(**body)
    assert (answer.status_code, answer.json()["restate_code"]) == (status, code), answer.text
    assert not cloud.engine.deployments.all


def test_large_bodies_are_compressed_where_the_function_can_read_that():
    body = b"a" * COMPRESSED_BYTES_MIN
    known = json.loads(event_for("POST", "/x", [("accept-encoding", "zstd")], body))
    assert known["headers"]["content-encoding"] == "zstd"
    assert zstd.decompress(base64.b64decode(known["body"])) == body
    for headers, data in (([], body), ([("accept-encoding", "zstd")], body[1:])):
        plain = json.loads(event_for("POST", "/x", headers, data))
        assert "content-encoding" not in plain["headers"]
        assert base64.b64decode(plain["body"]) == data


@pytest.mark.parametrize("cut", [0, 4])
def test_a_compressed_answer_is_read_when_it_is_whole(cut: int):
    data = zstd.compress(b"hello" * 100)
    answer = {
        "statusCode": 200, "headers": {"Content-Encoding": "zstd"}, "isBase64Encoded": True,
        "body": base64.b64encode(data[: len(data) - cut]).decode(),
    }  # fmt: skip
    if cut:
        with pytest.raises(TransportFailed, match="cannot be read"):
            parse_answer(json.dumps(answer).encode())
    else:
        assert parse_answer(json.dumps(answer).encode())[2] == b"hello" * 100
