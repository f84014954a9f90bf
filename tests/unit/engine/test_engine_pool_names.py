"""Names of node pools: files bear them."""

import pytest

from mep.endpoint.interchange.peers import pool_name_fits
from mep.endpoint.interchange.talk import HelloInfo


def hello(pool_id, node="n1", pid=7):
    return HelloInfo(pool_id, "3", node, pid, "3.11.2", 1, 1)


def test_a_pool_is_called_after_its_block_node_and_process():
    assert pool_name_fits(hello("3.n1.7"))
    assert pool_name_fits(hello("3.gpu-4.cluster_a.example.7", "gpu-4.cluster_a.example"))


@pytest.mark.parametrize(
    ("pool_id", "node"),
    [
        ("4.n1.7", "n1"),
        ("3.n2.7", "n1"),
        ("3.n1.8", "n1"),
        ("3.../../x.7", "../../x"),
        ("3..7", ""),
        ("3.a:b.7", "a:b"),
        ("3.a\nb.7", "a\nb"),
    ],
)
def test_what_is_no_name_of_a_pool(pool_id, node):
    assert not pool_name_fits(hello(pool_id, node))
