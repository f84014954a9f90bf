"""Schedulers' outputs, as recorded or as their manual pages show them, read for one job."""

import json

import pytest

from mep.endpoint.providers.commands import Answer
from mep.endpoint.providers.words import (
    NOT_ENDED,
    never_starts,
    no_such_job,
    reasons_in,
    time_was_over,
    word_for,
)

SACCT = """\
12              COMPLETED
13                TIMEOUT
14              NODE_FAIL
15      CANCELLED by 1000
"""
SQUEUE = "21 PD\n22 R\n23 CG\n"
QSTAT_TORQUE = """\
Job ID                    Name             User            Time Use S Queue
------------------------- ---------------- --------------- -------- - -----
12.pbs-server              parsl.mep-0.17   alice           00:00:01 R batch
13.pbs-server              parsl.mep-1.17   alice                  0 Q batch
"""
QSTAT_PBS = json.dumps(
    {
        "timestamp": 1700000000,
        "pbs_version": "23.06.06",
        "Jobs": {
            "41.server": {"Job_Name": "mep-0", "job_state": "R"},
            "42.server": {"Job_Name": "mep-1", "job_state": "F", "Exit_status": 271},
        },
    }
)
BJOBS = "1001 RUN\n1002 PSUSP\n1003 EXIT\n"
QSTAT_GE = """\
job-ID  prior   name       user         state submit/start at     queue              slots
------------------------------------------------------------------------------------------
    231 0.55500 mep-0.1700 alice        r     11/21/2026 07:00:01 all.q@n1               1
    232 0.00000 mep-1.1700 alice        qw    11/21/2026 07:00:02                        1
    233 0.55500 mep-2.1700 alice        t     11/21/2026 07:00:02 all.q@n2               1
    234 0.55500 mep-3.1700 alice        Eqw   11/21/2026 07:00:02                        1
"""
DOWN_OR_DRAINED = (
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
)
ACCOUNT = "Job's account not known, so it can't use this partition (members allows members)"
REASONS = f"""\
CLUSTER: testbed
1|PartitionDown
5|{DOWN_OR_DRAINED}
6|ReqNodeNotAvail, UnavailableNodes:n4
8|{ACCOUNT}
13|None
14|
"""
"""Of Slurm 22.05 with EnforcePartLimits=NO; the first line comes with --clusters."""
CONDOR_Q = "118907.0 2\n118908.0 4\n"


@pytest.mark.parametrize(
    ("provider", "stdout", "job_id", "word"),
    [
        ("SlurmProvider", SACCT, "12", "COMPLETED"),
        ("SlurmProvider", SACCT, "13", "TIMEOUT"),
        ("SlurmProvider", SACCT, "14", "NODE_FAIL"),
        ("SlurmProvider", SACCT, "15", "CANCELLED"),
        ("SlurmProvider", SACCT, "1", ""),
        ("SlurmProvider", SQUEUE, "23", "CG"),
        ("SlurmProvider", "", "23", ""),
        ("TorqueProvider", QSTAT_TORQUE, "12.pbs-server.example.org", "R"),
        ("TorqueProvider", QSTAT_TORQUE, "13.pbs-server", "Q"),
        ("TorqueProvider", QSTAT_TORQUE, "1.pbs-server", ""),
        ("PBSProProvider", QSTAT_PBS, "41.server", "R"),
        ("PBSProProvider", QSTAT_PBS, "42.server", "F, exit status 271"),
        ("PBSProProvider", QSTAT_PBS, "4.server", ""),
        ("PBSProProvider", "qstat: cannot connect", "41.server", ""),
        ("PBSProProvider", "[]", "41.server", ""),
        ("LSFProvider", BJOBS, "1002", "PSUSP"),
        ("LSFProvider", BJOBS, "1003", "EXIT"),
        ("GridEngineProvider", QSTAT_GE, "231", "r"),
        ("GridEngineProvider", QSTAT_GE, "234", "Eqw"),
        ("GridEngineProvider", QSTAT_GE, "23", ""),
        ("CondorProvider", CONDOR_Q, "118907.0", "2"),
        ("CondorProvider", CONDOR_Q, "118909.0", ""),
    ],
)
def test_the_word_of_one_job(provider, stdout, job_id, word):
    assert word_for(provider, job_id, stdout) == word


@pytest.mark.parametrize(
    "stderr",
    [
        "slurm_load_jobs error: Invalid job id specified\n",
        "scancel: error: Kill job error on job id 12: Invalid job id specified\n",
        "qstat: Unknown Job Id 12.pbs-server\n",
        "qstat: Unknown Job Id 12.server\nqstat: Unknown Job Id 13.server\n",
        "Job <1001> is not found\n",
        'denied: job "231" does not exist\n',
    ],
)
def test_a_job_that_the_scheduler_does_not_know(stderr):
    assert no_such_job(Answer("squeue", 1, "", stderr))


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "slurm_load_jobs error: Socket timed out on send/recv operation\n",
        "qstat: cannot connect to server pbs-server (errno=111)\n",
        "Connection refused\nqstat: Unknown Job Id 12.server\n",
        "LSF is down. Please wait ...\n",
        "error: unable to send message to qmaster using port 6444 on host m: got send error\n",
        "Error: Couldn't contact the condor_collector on host.\n",
        "squeue did not answer within 10 seconds\n",
    ],
)
def test_a_scheduler_that_does_not_answer_has_said_nothing(stderr):
    assert not no_such_job(Answer("squeue", 1, "", stderr))


def test_the_status_by_which_pbs_says_so_without_a_word():
    assert no_such_job(Answer("qstat 12", 153, "", ""))
    assert not no_such_job(Answer("qstat 12", 1, "", ""))
    assert not no_such_job(Answer("bjobs 12", 153, "", ""))


@pytest.mark.parametrize(
    ("word", "stderr"),
    [
        ("TIMEOUT", ""),
        (
            "x",
            "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-11-21T07 DUE TO TIME LIMIT ***",
        ),
        ("x", "=>> PBS: job killed: walltime 62 exceeded limit 60"),
        ("EXIT", "TERM_RUNLIMIT: job killed after reaching LSF run time limit."),
    ],
)
def test_the_end_of_a_walltime(word, stderr):
    assert time_was_over(word, stderr)


def test_no_other_end_is_that_of_a_walltime():
    assert not time_was_over("CANCELLED", "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT x ***")
    assert not time_was_over("F, exit status 1", "Traceback: TimeoutError")


def test_what_parsl_takes_for_an_end_and_is_none():
    assert NOT_ENDED["LSFProvider"]["PSUSP"] == "held"
    assert NOT_ENDED["GridEngineProvider"]["t"] == "running"


def test_why_jobs_are_pending():
    assert reasons_in(REASONS) == {
        "1": "PartitionDown",
        "5": DOWN_OR_DRAINED,
        "6": "ReqNodeNotAvail, UnavailableNodes:n4",
        "8": ACCOUNT,
    }
    assert reasons_in("") == {}
    assert len(reasons_in("1|" + "x" * 10_000)["1"]) == 400


@pytest.mark.parametrize(
    "reason",
    [
        *("PartitionDown", "PartitionInactive", "PartitionTimeLimit", "PartitionNodeLimit"),
        *("AssocMaxWallDurationPerJobLimit", "AssocMaxGRESPerJob", "QOSMaxCpuPerJobLimit"),
        *("BadConstraints", "InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"),
        ACCOUNT,
        "Job's account not permitted to use this partition (members allows members not nobodys)",
        "Job's QOS not permitted to use this partition (members denies low including low)",
    ],
)
def test_a_reason_that_passes_only_if_somebody_changes_something(reason):
    assert never_starts(reason)


@pytest.mark.parametrize(
    "reason",
    [
        *("Priority", "Resources", "Dependency", "BeginTime", "JobHeldUser", "JobHeldAdmin"),
        *("AssocGrpCpuLimit", "AssocMaxJobsLimit", "QOSGrpNodeLimit", "QOSMaxJobsPerUserLimit"),
        *("Licenses", "Reservation", "ReqNodeNotAvail, UnavailableNodes:n4", DOWN_OR_DRAINED),
        "a reason of a later version",
    ],
)
def test_a_reason_that_may_pass(reason):
    assert not never_starts(reason)
