"""What a node pool knows of its batch job."""

import pytest

from mep.worker.job import ends_at, path_before


@pytest.mark.parametrize(
    ("environment", "walltime_s", "end"),
    [
        ({}, None, None),
        ({"SLURM_JOB_END_TIME": "500"}, None, None),
        ({}, 60.0, 160.0),
        ({"MEP_BLOCK_BEGAN": "90"}, 60.0, 150.0),
        ({"MEP_BLOCK_BEGAN": "90", "SLURM_JOB_END_TIME": "500"}, 60.0, 500.0),
        ({"MEP_BLOCK_BEGAN": "90", "SLURM_JOB_END_TIME": "99"}, 60.0, 150.0),
        ({"MEP_BLOCK_BEGAN": "", "SLURM_JOB_END_TIME": "never"}, 60.0, 160.0),
    ],
)
def test_when_a_job_ends(environment, walltime_s, end):
    assert ends_at(environment, walltime_s, now=100.0) == end
    assert "MEP_BLOCK_BEGAN" not in environment


def test_path_as_the_jobs_script_saw_it():
    environment = {"MEP_PATH_BEFORE": "/job"}
    assert path_before(environment, "/endpoint") == "/job"
    assert environment == {}
    assert path_before({}, "/endpoint") == "/endpoint"
    assert path_before({"MEP_PATH_BEFORE": "/job"}, None) is None
