"""The words the layers share: targets, the catalog, errors, commits."""

import pytest

from agentdur.core import errors
from agentdur.core.catalog import EMPTY
from agentdur.core.errors import AgentdurError, CallerError, UnknownInvocation
from agentdur.core.ports import Writes
from agentdur.core.target import ObjectAddress, Target
from tests.core.builders import ADD, APPROVE, CATALOG, GREET, INV, PEEK, RUN, T0, completed


def test_a_target_is_written_as_its_path():
    assert [str(each) for each in (GREET, ADD)] == ["Greeter/greet", "Counter/k1/add"]


def test_a_keyed_target_addresses_its_key_within_its_scope():
    assert Target("Counter", "add", "k1", scope="eu").object == ObjectAddress("Counter", "k1", "eu")
    with pytest.raises(AssertionError):
        GREET.object  # noqa: B018  # reading it is what fails


def test_the_catalog_finds_what_is_served():
    for target in (GREET, ADD, PEEK, RUN, APPROVE):
        found = CATALOG.find(target.service, target.handler)
        assert found is not None
        assert found.kind is target.handler_kind
        assert CATALOG.target(target.service, target.handler, target.key) == target


def test_the_catalog_does_not_find_what_is_not_served():
    for service, handler in (("Greeter", "shout"), ("Shouter", "greet")):
        assert CATALOG.find(service, handler) is None
        assert CATALOG.target(service, handler) is None
    assert EMPTY.find("Greeter", "greet") is None


def test_objects_and_workflows_are_keyed():
    assert {name: meta.keyed for name, meta in CATALOG.services.items()} == {
        "Greeter": False,
        "Counter": True,
        "Signup": True,
    }


def test_an_invocation_is_known_by_its_id():
    assert completed().id == INV


def test_an_error_says_its_code_what_happened_and_the_cure():
    assert str(UnknownInvocation("inv_x")) == (
        "[AD0015] inv_x. No invocation has this id, or it was purged. Check the id and the retention."
    )
    assert str(UnknownInvocation()).startswith("[AD0015] No invocation has this id")
    assert isinstance(UnknownInvocation(), CallerError)


def test_every_error_with_a_code_has_a_cure_and_a_code_of_its_own():
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    coded = [each for each in kinds if issubclass(each, AgentdurError) and each.code]
    assert len(coded) > 30
    assert len({each.code for each in coded}) == len(coded)
    assert all((each.__doc__ or "").strip().endswith(".") for each in coded)


def test_a_commit_is_empty_until_something_is_in_it():
    for name in Writes.__slots__:
        writes = Writes()
        assert not writes
        held = getattr(writes, name)
        if isinstance(held, dict):
            held[1] = None
        elif isinstance(held, list):
            held.append(1)
        else:
            held.add(T0)
        assert writes
