"""`nas train`: full training of one network in a folder; the same command continues an interrupted training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import (
    DataOptions,
    GroupedCommand,
    StreamOptions,
    data_options,
    device_options,
    examples,
    json_option,
    one_argument,
    option,
    pop_options,
    quiet_option,
    recipe_options,
    seed_option,
    step_options,
    stream_options,
)
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from nas.data import Dataset, Streamed
    from nas.networks.architecture import Architecture
    from nas.networks.weights import Weights
    from nas.training.distributed import Group


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `nas train` that other commands don't share."""

    data: DataOptions
    stream: StreamOptions
    recipe: dict[str, Any]  # decay, ema, cutout, randaugment: keywords of `Recipe.of`
    epochs: int
    batch_size: int | None
    lr: float | None
    micro_batch: int | None
    seed: int
    device: str
    precision: str
    weights: str | None
    tensorboard: bool


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas train results/my-run/front/01-trial12-97.50acc-54.2kparams.yaml --dataset digits",
        "nas train resnet20 --dataset cifar10 --download --device cuda",
        "nas train resnet50 --dataset imagefolder:photos --resolution 224 --weights torchvision:resnet50 --lr 0.01",
        "nas train resnet50 --dataset imagefolder:imagenet --stream --workers 16 --epochs 100 --batch-size 256",
    ),
)
@one_argument("config", "CONFIG|NAME", "`nas compare` trains several by one recipe")
@data_options
@stream_options
@option("Training", "--epochs", type=int, default=FULL_EPOCHS, show_default=True, help="Epochs of the recipe.")
@step_options()
@recipe_options
@option(
    "Training",
    "--micro-batch",
    metavar="N",
    type=click.IntRange(min=1),
    help="Images in memory at once; gradients are summed to a step's batch.  [default: all, fewer where memory is short]",
)
@seed_option("weights, batches and split")
@option(
    "Training",
    "--weights",
    metavar="SOURCE",
    help="Start from these weights: FILE.safetensors or FILE.pth with our, torchvision's or timm's names, torchvision:NAME, or "
    "a folder of `nas train`.",
)
@device_options
@option(
    "Output",
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the training.  [default: results/train-...]",
)
@option("Output", "--tensorboard", is_flag=True, help="Also write TensorBoard's event files.")
@json_option
@quiet_option
def train(config: str, out: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train a network with the full recipe, and test it once.

    CONFIG is an exported YAML or JSON file, or the name of a published network; it is adapted to the classes, channels and
    size of the data's images. A tenth of the training images is held out and shown as validation accuracy; the test
    images are used once, at the end. After an interruption the same command continues after the last epoch.

    DIR then holds weights.safetensors, config.yaml, result.json, log.csv and report.html: the curves, the accuracy of each
    class and the confusion matrix.
    """
    from nas.cli.commands.inputs import read_architecture
    from nas.cli.commands.output import print_json
    from nas.cli.commands.training_display import print_result, write_pages
    from nas.training.distributed import joined
    from nas.utils.text import shown

    data, stream = pop_options(DataOptions, options), pop_options(StreamOptions, options)
    recipe = {name: options.pop(name) for name in ("decay", "ema", "cutout", "randaugment")}
    asked = Options(data, stream, recipe, **options)
    architecture = read_architecture(config)
    folder = out or Path("results") / _default_name(architecture, asked)
    _check(asked, folder)
    with joined(asked.device) as (group, device):
        result = _train(architecture, folder, asked, group, device, quiet or not group.first)
    if not group.first:
        return
    write_pages(folder)
    if as_json:
        print_json(result)
    else:
        print_result(result, shown(folder.absolute()))


def _default_name(architecture: Architecture, options: Options) -> str:
    from nas.cli.commands.inputs import slug

    start = "" if options.weights is None else f"-from-{slug(options.weights)}"
    data = slug(options.data.dataset)
    return f"train-{slug(architecture.name)}-{data}-{options.epochs}epochs-seed{options.seed}{start}"


def _check(options: Options, folder: Path) -> None:
    """UsageError for a wrong number or folder, before the data are read."""
    from nas.cli.commands.inputs import check_folder, check_no_search
    from nas.training.recipe import BASE_BATCH, Recipe

    batch_size = BASE_BATCH if options.batch_size is None else options.batch_size
    Recipe.of(options.epochs, batch_size, options.lr, **options.recipe)
    check_folder(folder)
    check_no_search(folder)
    if options.tensorboard:
        from nas.report.training.page import check_tensorboard

        check_tensorboard()


def _train(
    architecture: Architecture, folder: Path, options: Options, group: Group, device: str, quiet: bool
) -> dict[str, Any]:
    """Train and test, or continue in `folder`; the result, {} in processes other than the first of `group`."""
    from nas.cli.commands.output import note
    from nas.cli.commands.training_display import print_settings, run_epochs
    from nas.utils.text import shown

    with group.in_turn():  # the others use what the first one downloads or decodes
        weights, data = _read(options, quiet)

    from nas.training.full_training import FullTraining, adapted, held_out  # PyTorch takes long to load
    from nas.training.recipe import Recipe

    images = len(held_out(data, options.seed).train_index)
    recipe = Recipe.for_images(images, options.epochs, options.batch_size, options.lr, **options.recipe)
    network, changes = adapted(architecture, data)
    with FullTraining(
        folder,
        network,
        data,
        recipe,
        seed=options.seed,
        device=device,
        precision=options.precision,
        weights=weights,
        micro_batch=options.micro_batch,
        workers=options.stream.workers,
        group=group,
    ) as training:
        if not training.finished:
            if not quiet:
                print_settings(training, changes)
            run_epochs(training, quiet, options.tensorboard)
        else:
            if not quiet:
                note(f"{shown(folder.absolute())}: trained and tested already; this is its result")
            if options.tensorboard and group.first:
                from nas.report.training.page import write_tensorboard

                write_tensorboard(folder)
        return training.result()


def _read(options: Options, quiet: bool) -> tuple[Weights | None, Dataset | Streamed]:
    from nas.cli.commands.inputs import read_images, weights_file
    from nas.cli.commands.output import note

    weights = None
    if options.weights is not None:
        from nas.networks.weights import read

        weights = read(weights_file(options.weights), progress=not quiet)
    return weights, read_images(options.data, options.stream, progress=None if quiet else note)
