"""Messages of conversations: each is stored once, read back as a chain, and swept from its end."""

from __future__ import annotations

from agentdur.core.ports import Writes
from tests.stores.homes import Home, commit
from tests.stores.samples import T0

BYTES = b'{"content":"\xc3\xbc","role":"user"}'


def said(*messages: tuple[str, str, int]) -> Writes:
    """(hash, parent, used at) of each; what it says is its name."""
    writes = Writes()
    writes.messages = {name: (parent, name.encode(), at) for name, parent, at in messages}
    return writes


def test_a_conversation_comes_back_in_order_and_before_and_after_a_restart(home: Home) -> None:
    writes = said(("a", "", T0), ("b", "a", T0), ("c", "b", T0))
    writes.messages["a"] = ("", BYTES, T0)
    commit(home.store, writes)
    for _ in range(2):
        assert home.store.conversation("c") == [BYTES, b"b", b"c"]
        assert home.store.conversation("a") == [BYTES]
        assert home.store.conversation("unknown") is None
        home.reopen()


def test_conversations_share_their_beginning(home: Home) -> None:
    commit(home.store, said(("a", "", T0), ("b", "a", T0), ("c", "a", T0)))
    assert home.store.conversation("b") == [b"a", b"b"]
    assert home.store.conversation("c") == [b"a", b"c"]


def test_one_with_a_gap_is_not_there(home: Home) -> None:
    """Half a conversation would be another one."""
    commit(home.store, said(("b", "a", T0), ("c", "b", T0)))
    assert home.store.conversation("c") is None


def test_unused_are_the_ends_that_nobody_used_since(home: Home) -> None:
    commit(home.store, said(("a", "", T0), ("b", "a", T0 + 5), ("c", "a", T0 + 1), ("d", "", T0 + 2)))
    assert home.store.unused_messages(T0 + 1, 9) == []
    assert home.store.unused_messages(T0 + 3, 9) == ["c", "d"]
    assert home.store.unused_messages(T0 + 9, 2) == ["c", "d"]
    assert home.store.unused_messages(T0 + 9, 9) == ["c", "d", "b"]
    drops = Writes()
    drops.message_drops = {"b", "c"}
    commit(home.store, drops)
    assert home.store.unused_messages(T0 + 9, 9) == ["a", "d"]


def test_what_is_said_again_is_used_again(home: Home) -> None:
    """Also in the commit in which it is dropped: drops come first."""
    commit(home.store, said(("a", "", T0)))
    again = said(("a", "", T0 + 7))
    again.message_drops = {"a"}
    commit(home.store, again)
    assert home.store.conversation("a") == [b"a"]
    assert home.store.unused_messages(T0 + 7, 9) == []
    assert home.store.unused_messages(T0 + 8, 9) == ["a"]
