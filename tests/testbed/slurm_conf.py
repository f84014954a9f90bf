"""The configuration files of the simulated cluster, as text.

Partitions: ``debug`` (the default), and three that refuse: ``short`` (at most 10 minutes),
``closed`` (no jobs at all) and ``members`` (account ``members`` alone).
"""

from collections.abc import Mapping
from pathlib import Path

CONTROLLER = "ctl"

_CONF = """\
ClusterName=testbed
SlurmctldHost={controller}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={top}/munge/socket
CredType=cred/munge
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool/%n
SlurmctldPidFile={top}/state/slurmctld.pid
SlurmdPidFile={top}/spool/%n/slurmd.pid
SlurmctldLogFile={top}/log/slurmctld.log
SlurmdLogFile={top}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=300
InactiveLimit=0
MinJobAge=300
KillWait=3
Waittime=0
{accounting}
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=short Nodes=ALL MaxTime=10 State=UP OverSubscribe=NO
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=INACTIVE OverSubscribe=NO
PartitionName=members Nodes=ALL AllowAccounts=members State=UP OverSubscribe=NO
"""

_NODE = (
    "NodeName={name} NodeHostname={name} NodeAddr={address} Port={port} CPUs={cpus} Boards=1"
    " SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN"
)

_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={top}/munge/socket
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1"""

_SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={top}/munge/socket
DbdHost={controller}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=slurm
LogFile={top}/log/slurmdbd.log
PidFile={top}/state/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def addresses(count: int) -> dict[str, str]:
    """Name and address of each node."""
    return {f"n{number}": f"127.0.1.{number}" for number in range(1, count + 1)}


def slurm_conf(
    top: Path, port: int, ports: Mapping[str, int], cpus: int, dbd_port: int | None
) -> str:
    """``slurm.conf``.

    Args:
        top: directory of the cluster.
        port: of slurmctld.
        ports: of each node's slurmd.
        cpus: of each node, whatever the machine has.
        dbd_port: of slurmdbd; None: no accounting.
    """
    nodes = "\n".join(
        _NODE.format(name=name, address=address, port=ports[name], cpus=cpus)
        for name, address in addresses(len(ports)).items()
    )
    accounting = "AccountingStorageType=accounting_storage/none"
    if dbd_port is not None:
        accounting = _ACCOUNTING.format(top=top, port=dbd_port)
    return _CONF.format(
        top=top, controller=CONTROLLER, port=port, nodes=nodes, accounting=accounting
    )


def slurmdbd_conf(top: Path, port: int) -> str:
    """``slurmdbd.conf``."""
    return _SLURMDBD.format(top=top, port=port, controller=CONTROLLER)


def mpi_conf(pmix: Path) -> str:
    """``mpi.conf``: `pmix` must be another directory on every node. The plugin makes directories
    in it whose names do not tell the node.
    """
    return f"PMIxCliTmpDirBase={pmix}\n"


def hosts(count: int) -> str:
    """``/etc/hosts`` as the machines of the cluster see it."""
    names = {"localhost": "127.0.0.1", CONTROLLER: "127.0.0.1", **addresses(count)}
    return "".join(f"{address}\t{name}\n" for name, address in names.items())
