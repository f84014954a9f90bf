"""What each worker of a node gets."""

import pytest

from mep.worker.layout import LayoutError, Node, affinity, layout, named

PLAIN = {
    "max_workers": None,
    "cores_per_worker": 1.0,
    "mem_per_worker": None,
    "cpu_affinity": "none",
    "accelerators": None,
}
EIGHT = Node(list(range(8)), 16.0)


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        ({}, 8),
        ({"max_workers": 3}, 3),
        ({"max_workers": 32}, 8),
        ({"cores_per_worker": 4}, 2),
        ({"cores_per_worker": 0.5}, 16),
        ({"cores_per_worker": 3}, 2),
        ({"cores_per_worker": 64}, 1),
        ({"cores_per_worker": None, "max_workers": 32}, 32),
        ({"cores_per_worker": None}, 8),
        ({"mem_per_worker": 5}, 3),
        ({"mem_per_worker": 500}, 1),
        ({"accelerators": 2}, 2),
        ({"accelerators": ["0,1", "2,3", "4,5"], "max_workers": 2}, 2),
    ],
)
def test_how_many_workers(settings, workers):
    assert len(layout(EIGHT, {**PLAIN, **settings})) == workers


@pytest.mark.parametrize(
    ("how", "cores"),
    [
        ("none", []),
        ("block", [[4, 5], [6, 7], [8, 9]]),
        ("block-reverse", [[8, 9], [6, 7], [4, 5]]),
        ("alternating", [[4, 7, 10], [5, 8], [6, 9]]),
        ("list:4:5-7,10:8,9", [[4], [5, 6, 7, 10], [8, 9]]),
    ],
)
def test_affinity(how, cores):
    assert affinity(how, [4, 5, 6, 7, 8, 9, 10], 3) == cores


@pytest.mark.parametrize(("how", "words"), [("block", "needs a core"), ("list:0:1", "lists cores")])
def test_too_many_workers_for_an_affinity(how, words):
    with pytest.raises(LayoutError, match=words):
        affinity(how, [0, 1], 3)


def test_what_a_worker_finds_in_its_environment():
    settings = {**PLAIN, "max_workers": 2, "cpu_affinity": "block", "accelerators": ["a", "b"]}
    shares = layout(EIGHT, settings)
    assert [share.cores for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert shares[1].environment == {
        "PARSL_WORKER_RANK": "1",
        "PARSL_WORKER_COUNT": "2",
        "OMP_NUM_THREADS": "4",
        "GOMP_CPU_AFFINITY": "4,5,6,7",
        "KMP_AFFINITY": "explicit,proclist=[4,5,6,7]",
        "CUDA_VISIBLE_DEVICES": "b",
        "ROCR_VISIBLE_DEVICES": "b",
        "ZE_AFFINITY_MASK": "b",
        "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1",
    }


def test_a_number_of_accelerators_names_them():
    assert named(3) == ["0", "1", "2"]
    assert named(None) == []
