"""Several processes, one a GPU, that train one network together, as `torchrun` starts them.

Each takes an equal part of every batch; gradients are averaged over all images of the batch, so that the effective batch, the
learning rate and the number of steps don't depend on how many processes there are. Batch norms see a process's own images, as
they do with micro-batches of that size; their running statistics are averaged over the processes before each validation.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from nas.errors import NasError, UsageError, reason_of

if TYPE_CHECKING:  # a process on its own does without
    from torch import Tensor, nn

# The first process alone reads data, tests and writes, while the others wait for it.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Group:
    """Process `rank` of `size`; the default is a process on its own, for which nothing here costs anything."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wrap(self, network: nn.Module, *, unused: bool = False) -> nn.Module:
        """The network whose backward passes average the gradients over the processes; they must have the same weights.

        unused: whether a forward pass may leave parameters out, as one does that skips blocks.
        """
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        # Statistics of norms are a process's own until `average_buffers`. torch 2.15 has a new name for that.
        known = inspect.signature(DistributedDataParallel).parameters
        synchronised = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {synchronised: False}
        return DistributedDataParallel(network, gradient_as_bucket_view=True, find_unused_parameters=unused, **options)

    def sum(self, *tensors: Tensor) -> None:
        """Each tensor's sum over the processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.all_reduce(tensor)

    def average_buffers(self, networks: Iterable[nn.Module]) -> None:
        """The mean over the processes of the networks' floating-point buffers, running statistics above all, in place."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for network in networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.size

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The block, in the first process before the others begin with it: these find what the first has left on the disk.

        NasError in the others if it fails there, so that they don't wait for it.
        """
        if self.size == 1:
            yield
        elif self.first:
            try:
                yield
            except BaseException:
                self._tell(False)
                raise
            self._tell(True)
        else:
            if not self._tell(None):
                raise NasError("the first process of the training failed; what it says is why")
            yield

    def _tell(self, went_well: bool | None) -> bool | None:
        """What the first process says, in all of them."""
        import torch.distributed as dist

        said = [went_well]
        dist.broadcast_object_list(said, src=0)
        return said[0]


ALONE = Group()


def unsynchronised(network: nn.Module) -> AbstractContextManager[None]:
    """For backward passes whose gradients are only added up here, since another one follows before the step."""
    from torch.nn.parallel import DistributedDataParallel

    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def started_together(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `torchrun`, or another launcher with its variables, started this process as one of several."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The group that this process was started in, and its device: of "auto" or "cuda", the GPU of its place on the machine.

    NCCL between GPUs, Gloo between CPUs. A process on its own gets `ALONE` and the device as it is. UsageError where the
    machine has fewer GPUs than processes, or where all would share a GPU that was named; NasError where another process is gone.
    """
    if not started_together():
        yield ALONE, device
        return
    import torch
    import torch.distributed as dist

    place = int(os.environ.get("LOCAL_RANK", "0"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        if torch.cuda.device_count() < here:
            raise UsageError(
                f"{here} processes on a machine with {torch.cuda.device_count()} GPUs; start one a GPU: "
                f"torchrun --nproc-per-node {max(torch.cuda.device_count(), 1)}"
            )
        device = f"cuda:{place}"
        torch.cuda.set_device(place)
    elif device.startswith("cuda"):
        raise UsageError(
            f"--device {device} names one GPU for {here} processes; give --device cuda, and each takes its own"
        )
    else:
        device = "cpu"
    dist.init_process_group("nccl" if device != "cpu" else "gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size()), device
    except RuntimeError as error:
        if "gloo" not in str(error) and "NCCL" not in str(error):
            raise
        reason = reason_of(error, first_line=True)
        raise NasError(
            f"another process of the training is gone; the same command goes on behind the last epoch: {reason}"
        ) from error
    finally:
        dist.destroy_process_group()


def leave(status: int | str | None) -> NoReturn:
    """End this process with `status`, without taking Python down around it.

    Gloo's threads outlive the group where DDP was used (torch 2.15 keeps it alive from C++); one that wants the interpreter while it
    is being taken down aborts a process that has done all its work: 4 of 23 trainings by two processes ended so.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
