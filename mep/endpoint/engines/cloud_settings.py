"""``provider:`` of Kubernetes and of the clouds, with Parsl's names, keys and defaults."""

from typing import Annotated, ClassVar

from msgspec import Meta

from mep.endpoint.engines.launcher_settings import LauncherSettings, SingleNodeLauncherSettings
from mep.endpoint.engines.scheduler_settings import (
    InitBlocks,
    MaxBlocks,
    ProviderSettings,
    Walltime,
    check_walltime,
    walltime_seconds,
)
from mep.endpoint.engines.section import Word

Cpus = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z", max_length=253)]
Number = Annotated[str, Meta(pattern=r"\A[0-9]{1,10}\Z")]
Quantity = Annotated[str, Meta(pattern=r"\A[0-9.]+[A-Za-z]{0,2}\Z")]
Launcher = Annotated[LauncherSettings, Meta(description="What starts a node pool.")]


class KubernetesProviderSettings(ProviderSettings, frozen=True, kw_only=True):
    """Kubernetes: a block is a pod."""

    packages: ClassVar[tuple[str, ...]] = ("parsl", "kubernetes")

    image: Annotated[Word, Meta(description="Image of the pods; it has mep-pool.")]
    namespace: Annotated[Name, Meta(description="Namespace of the pods.")] = "default"
    init_blocks: InitBlocks = 4
    max_blocks: MaxBlocks = 10
    max_cpu: Annotated[Cpus, Meta(description="Limit of a pod.")] = 2
    max_mem: Annotated[Quantity, Meta(description="Limit of a pod.")] = "500Mi"
    init_cpu: Annotated[Cpus, Meta(description="Request of a pod.")] = 1
    init_mem: Annotated[Quantity, Meta(description="Request of a pod.")] = "250Mi"
    extra_requests: Annotated[
        dict[str, str] | None, Meta(description="More requests of a pod, such as GPUs.")
    ] = None
    extra_limits: Annotated[dict[str, str] | None, Meta(description="More limits of a pod.")] = None
    pod_name: Annotated[Name | None, Meta(description="Begin of the pods' names.")] = None
    user_id: Annotated[Number | None, Meta(description="User of the pods, by number.")] = None
    group_id: Annotated[Number | None, Meta(description="Group of the pods, by number.")] = None
    run_as_non_root: Annotated[bool, Meta(description="Refuse to run a pod as root.")] = False
    secret: Annotated[Name | None, Meta(description="Secret that pulls the image.")] = None
    persistent_volumes: Annotated[
        tuple[tuple[Name, Word], ...],
        Meta(description="Volume claims, and where each is mounted."),
    ] = ()
    service_account_name: Annotated[Name | None, Meta(description="Account of the pods.")] = None
    annotations: Annotated[dict[str, str] | None, Meta(description="Of the pods.")] = None


class AWSProviderSettings(ProviderSettings, frozen=True, kw_only=True):
    """Amazon EC2: a block is an instance."""

    packages: ClassVar[tuple[str, ...]] = ("parsl", "boto3")

    image_id: Annotated[Word, Meta(description="Machine image.")]
    key_name: Annotated[Word, Meta(description="Key pair that may log in.")]
    max_blocks: MaxBlocks = 10
    instance_type: Annotated[Word, Meta(description="Type of the instances.")] = "t2.small"
    region: Annotated[Word, Meta(description="Region.")] = "us-east-2"
    spot_max_bid: Annotated[float, Meta(ge=0, description="Bid for spot instances.")] = 0
    key_file: Annotated[Word | None, Meta(description="File with credentials.")] = None
    profile: Annotated[Word | None, Meta(description="Profile of the credentials.")] = None
    iam_instance_profile_arn: Annotated[str, Meta(description="Role of the instances.")] = ""
    state_file: Annotated[Word | None, Meta(description="Where Parsl notes what it made.")] = None
    walltime: Walltime = "01:00:00"
    linger: Annotated[bool, Meta(description="Leave instances when the command ends.")] = False
    launcher: Launcher = SingleNodeLauncherSettings()

    def __post_init__(self) -> None:
        check_walltime(self.walltime)

    @property
    def walltime_s(self) -> float:
        """What a block is granted, in seconds."""
        return walltime_seconds(self.walltime)


class AzureProviderSettings(ProviderSettings, frozen=True, kw_only=True):
    """Microsoft Azure: a block is a virtual machine."""

    packages: ClassVar[tuple[str, ...]] = ("parsl", "azure.mgmt.compute")

    vm_reference: Annotated[dict[str, str], Meta(description="Publisher, offer, sku, version.")]
    max_blocks: MaxBlocks = 10
    location: Annotated[Word, Meta(description="Region.")] = "westus"
    group_name: Annotated[Word, Meta(description="Resource group.")] = "parsl.group"
    key_name: Annotated[Word | None, Meta(description="Key that may log in.")] = None
    key_file: Annotated[Word | None, Meta(description="File with credentials.")] = None
    vnet_name: Annotated[Word, Meta(description="Virtual network.")] = "parsl.vnet"
    linger: Annotated[bool, Meta(description="Leave machines when the command ends.")] = False
    launcher: Launcher = SingleNodeLauncherSettings()


class GoogleCloudProviderSettings(ProviderSettings, frozen=True, kw_only=True):
    """Google Compute Engine: a block is an instance."""

    packages: ClassVar[tuple[str, ...]] = ("parsl", "googleapiclient")

    project_id: Annotated[Word, Meta(description="Project.")]
    key_file: Annotated[Word, Meta(description="File with credentials.")]
    region: Annotated[Word, Meta(description="Region.")]
    os_project: Annotated[Word, Meta(description="Project of the image.")]
    os_family: Annotated[Word, Meta(description="Family of the image.")]
    google_version: Annotated[Word, Meta(description="Version of the interface.")] = "v1"
    instance_type: Annotated[Word, Meta(description="Type of the instances.")] = "n1-standard-1"
    max_blocks: MaxBlocks = 10
    launcher: Launcher = SingleNodeLauncherSettings()

    def __post_init__(self) -> None:
        if self.worker_init.strip():
            raise ValueError(
                "Parsl's GoogleCloudProvider runs no worker_init: put into the image what it does"
            )
