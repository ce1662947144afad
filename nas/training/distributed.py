"""Data-parallel training of one network by several processes, one per GPU, as `torchrun` starts them.

Each process takes an equal part of every batch, and gradients are averaged over the whole batch: effective batch size, learning
rate and number of steps don't depend on the number of processes. Batch norms use a process's own images, as with micro-batches
of that size; their running statistics are averaged over the processes before each validation.
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

if TYPE_CHECKING:  # a single process imports no torch here
    from torch import Tensor, nn

PATIENCE = timedelta(hours=6)  # the others wait this long while the first process reads data, tests and writes


@dataclass(frozen=True, slots=True)
class Group:
    """Process `rank` of `size`. The default is a single process, for which all methods are free."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and output."""
        return self.rank == 0

    def wrap(self, network: nn.Module, *, unused: bool = False) -> nn.Module:
        """The network, with gradients averaged over the processes in each backward pass; the weights must be the same in all.

        unused: whether a forward pass may leave parameters unused, as one that skips blocks does.
        """
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        # Norms keep their statistics per process until `average_buffers`. torch 2.15 has renamed the option.
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
        """The mean over the processes of the networks' floating-point buffers (running statistics), in place."""
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
        """Run the block in the first process before the others, so that these can read files that the first has written.

        If it fails in the first process, the others raise NasError instead of waiting.
        """
        if self.size == 1:
            yield
        elif self.first:
            try:
                yield
            except BaseException:
                self._broadcast(False)
                raise
            self._broadcast(True)
        else:
            if not self._broadcast(None):
                raise NasError("the first process of the training failed; what it says is why")
            yield

    def _broadcast(self, succeeded: bool | None) -> bool | None:
        """The first process's value, in all processes."""
        import torch.distributed as dist

        values = [succeeded]
        dist.broadcast_object_list(values, src=0)
        return values[0]


ALONE = Group()


def unsynchronised(network: nn.Module) -> AbstractContextManager[None]:
    """For backward passes that only accumulate gradients in this process, before the one that averages them."""
    from torch.nn.parallel import DistributedDataParallel

    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def started_together(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `torchrun`, or another launcher with its variables, started this process as one of several."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The group that this process was started in, and its device: for "auto" or "cuda", the GPU of its local rank.

    NCCL between GPUs, Gloo between CPUs. A single process gets `ALONE` and `device` unchanged. UsageError if the machine has
    fewer GPUs than processes, or if `device` names one GPU for all of them; NasError if another process is gone.
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
            f"another process of the training is gone; the same command resumes after the last epoch: {reason}"
        ) from error
    finally:
        dist.destroy_process_group()


def leave(status: int | str | None) -> NoReturn:
    """End this process with `status`, without finalizing the interpreter.

    Gloo's threads outlive the group after DDP was used (torch 2.15 keeps it alive from C++). One that needs the interpreter during
    finalization aborts a process whose work is done: that ended 4 of 23 trainings by two processes.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
