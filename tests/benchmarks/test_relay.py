"""When a packet arrives that a relayed network carries."""

import pytest

from benchmarks.relay import Port, address


def test_delay_and_rate():
    """By hand: packets of 1,000 bytes at 1 MB/s take 1 ms each, one after the other, and 20 ms more."""
    port = Port(3)
    assert port.due(1000, 5.0) == 5.0
    port.set("delay", "0.02")
    port.set("rate", "1e6")
    assert [port.due(1000, 5.0) for _ in range(3)] == pytest.approx([5.021, 5.022, 5.023])
    assert port.due(1000, 6.0) == pytest.approx(6.021)


def test_packets_that_would_wait_for_long_are_lost():
    port = Port(3, rate=1e3)
    arrived = [port.due(1000, 5.0) for _ in range(5)]
    assert arrived[0] == pytest.approx(6.0)
    assert arrived[-1] is None


def test_loss_and_links_that_are_down():
    port = Port(3)
    port.set("loss", "0.25")
    lost = sum(port.due(100, float(n)) is None for n in range(4000))
    assert 800 < lost < 1200
    port.set("loss", "0")
    port.set("down")
    assert port.due(100, 5000.0) is None
    port.set("up")
    assert port.due(100, 5000.0) == 5000.0


def test_addresses():
    assert [address(host) for host in range(2)] == ["10.93.71.1", "10.93.71.2"]
