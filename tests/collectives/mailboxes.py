"""Nodes of a pretended network: messages lie in mailboxes, and what is sent is counted."""

from collections import Counter, deque

import numpy as np

from distopt.collectives.exchange import Exchange
from distopt.collectives.node_rounds import node_rounds
from distopt.collectives.tree import live_rows, local_pairs


class Network:
    """The mailboxes of all nodes."""

    def __init__(self, nodes):
        self.boxes = {}
        self.messages, self.nbytes = Counter(), Counter()
        self.nodes = [Node(self, rank, nodes) for rank in range(nodes)]


class Node:
    """One node's end: only what an exchange needs of a communicator."""

    waits = None

    def __init__(self, network, rank, size):
        self.network, self.rank, self.size = network, rank, size

    def begin_messages(self, sent, received, tag=0, came=None):
        network = self.network
        assert len({peer for peer, _ in sent}) == len(sent)
        assert len({peer for peer, _ in received}) == len(received)
        assert 0 <= tag < 1 << 15
        for peer, array in sent:
            assert peer != self.rank
            network.messages[self.rank] += 1
            network.nbytes[self.rank] += array.nbytes
            network.boxes.setdefault((self.rank, peer, tag), deque()).append(array.copy())
        left = list(received)

        def arrived():
            for peer, room in list(left):
                box = network.boxes.get((peer, self.rank, tag))
                if box:
                    room[:] = box.popleft()
                    left[:] = [one for one in left if one[0] != peer]
            return not left

        return arrived


def node_rows(members, number, rows):
    """What is left of a node's rows when it has added up what it can; in the order of the plan."""
    size, rows = sum(map(len, members)), {row: rows[row].copy() for row in members[number]}
    for i, j in local_pairs(size, members[number]):
        rows[i] += rows[j]
    return [rows[row] for row in live_rows(size, members[number])]


def exchanged(members, rule, rows, order):
    """The totals that all nodes get, and the network; ``order`` is that in which nodes are looked at."""
    network = Network(len(members))
    exchanges = []
    for node in network.nodes:
        plan = node_rounds(members, rule, node.rank)
        exchanges.append(Exchange(node, plan, node_rows(members, node.rank, rows), np.add, 3))
    for _ in range(500):
        done = [exchanges[number].advance() for number in order]
        if all(done):
            return [exchange.total for exchange in exchanges], network
    raise AssertionError("the exchange does not end")
