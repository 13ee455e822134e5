"""Kernels for chapters that are forked from a process which has imported the package.

The import takes some ten seconds; a forked kernel has it done. Where multiprocessing has a fork server, as on Linux and macOS.
"""

import multiprocessing
import os
from importlib.metadata import EntryPoint
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

CONTEXT = multiprocessing.get_context("forkserver")
# What chapters import, without pyplot, which a kernel sets up for itself.
IMPORTED = "book.build torch._dynamo wsis.evaluation wsis.experiments wsis.methods wsis.training wsis.weak".split()


class Kernel(CONTEXT.Process):
    """A forked kernel, with what its provisioner wants of a `subprocess.Popen`.

    arguments: those of ipykernel, with the connection file. folder: where it runs. environment: its variables.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
        super().__init__()
        self.arguments, self.folder, self.environment = arguments, folder, environment

    def run(self) -> None:
        os.environ.update(self.environment)
        os.chdir(self.folder)
        parent = f"--IPKernelApp.parent_handle={os.getppid()}"  # a kernel ends with its parent
        IPKernelApp.launch_instance([*self.arguments, parent])

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)


class Forked(LocalProvisioner):
    """Starts a kernel of this environment as a `Kernel`."""

    process: Kernel | None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self.process = Kernel(arguments, kwargs.get("cwd") or os.getcwd(), kwargs["env"])
        self.process.start()
        self.pid = self.process.pid
        return self.connection_info


def fork_kernels() -> None:
    """Make all kernels that this process starts from here on forked ones; the first of them waits for the import."""
    CONTEXT.set_forkserver_preload(IMPORTED)
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:{Forked.__name__}", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
