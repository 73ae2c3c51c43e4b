"""The relay that keeps a connection open when its other end is gone."""

import contextlib
import socket

import pytest

from xkd_jax.run.relay import Relay

WAIT = 0.3  # seconds in which a connection that stays open would show that it does not


def address_of(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def connect(relay):
    host, port = relay.address.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


@contextlib.contextmanager
def through_relay():
    """Yields both ends of a connection through a relay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = connect(Relay(address_of(server)))
        far, _ = server.accept()
    with near, far:
        far.settimeout(10)
        yield near, far


def test_it_passes_on_what_both_sides_say():
    with through_relay() as (near, far):
        for source, sink in ((near, far), (far, near), (near, far)):
            source.sendall(b"word")
            assert sink.recv(10) == b"word"
    content = bytes(range(256)) * 4096
    with through_relay() as (near, far):
        far.sendall(content)
        received = b""
        while len(received) < len(content):
            received += near.recv(1 << 16)
        assert received == content


def test_the_far_side_learns_that_the_near_one_has_ended():
    with through_relay() as (near, far):
        near.close()
        assert far.recv(10) == b""


@pytest.mark.parametrize("abruptly", [False, True])
def test_the_near_side_does_not_learn_that_the_far_one_has_ended(abruptly):
    with through_relay() as (near, far):
        if abruptly:  # the connection is reset, as when a process is killed
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        near.settimeout(WAIT)
        for _ in range(3):
            near.sendall(b"are you there?")
            with pytest.raises(TimeoutError):
                near.recv(10)


def test_the_near_side_learns_that_there_is_nobody_yet():
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(address_of(server))
    with connect(relay) as near, contextlib.suppress(ConnectionError):
        assert near.recv(10) == b""
