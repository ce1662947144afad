"""`nas finetune`: fine-tuning of one trained network, or of each network on a run's front, on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.fronts import Start, front_starts, train_front
from nas.cli.commands.options import (
    DataOptions,
    GroupedCommand,
    StreamOptions,
    data_options,
    device_options,
    examples,
    json_option,
    misused,
    one_argument,
    option,
    pop_options,
    quiet_option,
    seed_option,
    step_options,
    stream_options,
)
from nas.errors import NasError, UsageError
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from nas.data import Dataset, Streamed
    from nas.networks.weights import Weights
    from nas.runs.run import Run
    from nas.training.distributed import Group
    from nas.training.transfer import Policy

POLICIES = ("auto", "full", "last-stages", "head")  # nas.training.transfer's


@dataclass(frozen=True, slots=True)
class Options:
    """How all the networks of one command are fine-tuned."""

    keep_head: bool
    backbone_lr_scale: float | None
    stage_decay: float | None
    policy: str
    unfreeze_every: int
    epochs: int | None
    train_epochs: int | None
    batch_size: int | None
    lr: float | None
    seed: int
    device: str
    precision: str
    quiet: bool
    workers: int | None

    def policy_of(self, stages: int, kind: str) -> Policy:
        from nas.training.transfer import BACKBONE_SCALE, Policy

        scale = BACKBONE_SCALE if self.backbone_lr_scale is None else self.backbone_lr_scale
        return Policy(stages, kind, scale, self.stage_decay, self.unfreeze_every)

    def check(self) -> None:
        """UsageError for options that exclude each other and for wrong numbers."""
        from nas.training.recipe import BASE_BATCH, Recipe

        if self.backbone_lr_scale is not None and self.stage_decay is not None:
            raise misused("--backbone-lr-scale and --stage-decay: choose one")
        for name, value in (("backbone-lr-scale", self.backbone_lr_scale), ("stage-decay", self.stage_decay)):
            if value is not None and self.policy == "head":
                raise misused(f"--policy head trains the head alone: --{name} sets the rate of the layers below it")
        self.policy_of(1, "full" if self.policy == "auto" else self.policy)
        batch_size = BASE_BATCH if self.batch_size is None else self.batch_size
        Recipe.of(1 if self.epochs is None else self.epochs, batch_size, self.lr)

    def say(self, text: str) -> None:
        from nas.cli.commands.output import note

        if not self.quiet:
            note(text)


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas finetune resnet50 --weights torchvision:resnet50 --dataset imagefolder:photos --resolution 224",
        "nas finetune trained --dataset imagefolder:photos --resolution 32",
        "nas finetune trained --dataset digits --policy last-stages --stage-decay 0.5 --unfreeze-every 5",
        "nas finetune results/my-run --weights trained-front --dataset imagefolder:photos --resolution 32",
    ),
)
@one_argument("source", "CONFIG|TRAINED|RUN", "a search's folder stands for all networks of its front")
@data_options
@stream_options
@option(
    "Fine-tuning",
    "--weights",
    metavar="SOURCE",
    help="FILE.safetensors or FILE.pth with our, torchvision's or timm's names, torchvision:NAME, or a folder of `nas train`; for a "
    "RUN the folder that holds the trainings of its front.  [default: the weights in TRAINED]",
)
@option(
    "Fine-tuning",
    "--policy",
    type=click.Choice(POLICIES),
    default="auto",
    show_default=True,
    help="The part that is trained.",
)
@option(
    "Fine-tuning",
    "--backbone-lr-scale",
    metavar="X",
    type=float,
    help="Factor of the learning rate below the head.  [default: 0.3]",
)
@option(
    "Fine-tuning",
    "--stage-decay",
    metavar="X",
    type=float,
    help="Instead: multiply the learning rate by X for each stage away from the head.",
)
@option(
    "Fine-tuning",
    "--unfreeze-every",
    metavar="EPOCHS",
    type=int,
    default=0,
    help="Train the head first, and add a stage each time after this many epochs.  [default: all at once]",
)
@option(
    "Fine-tuning", "--keep-head", is_flag=True, help="Start from the trained classifier; the classes must be the same."
)
@option("Training", "--epochs", type=int, help="Epochs of the recipe.  [default: 30, more for few images]")
@option(
    "Training",
    "--train-epochs",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"For a RUN without --weights: epochs of the training before fine-tuning.  [default: {FULL_EPOCHS}]",
)
@step_options("the head")
@seed_option("head, batches and split")
@device_options
@option(
    "Output",
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the results.  [default: results/finetune-...]",
)
@json_option
@quiet_option
def finetune(source: str, weights: str | None, out: Path | None, as_json: bool, **options: Any) -> None:
    """Fine-tune a trained network on other data, and test it once.

    CONFIG is the same as for `nas train`; TRAINED is a folder of a finished `nas train`. The network is adapted to the data.
    Its classifier starts fresh; all its other weights must fit. Policy full trains the whole network, last-stages the head
    and the last half of the stages, head the head alone; auto chooses by the number of images, and prints its choice and the
    reason. Layers that are not trained keep their weights and the statistics of their norms.

    RUN is a search's folder: each network of its front is fine-tuned in a separate folder. A search keeps no weights.
    Therefore the networks of the front are first trained in DIR/trained, on the data of the search, by its recipe over
    --train-epochs; or give a folder of such trainings as --weights.

    After an interruption the same command continues after the last epoch.
    """
    from nas.cli.commands.inputs import check_folder, check_no_search, read_images, read_run
    from nas.runs.settings import FILE
    from nas.training.distributed import joined

    data_values, streaming = pop_options(DataOptions, options), pop_options(StreamOptions, options)
    asked = Options(**options, workers=streaming.workers)
    asked.check()
    run = read_run(Path(source)) if (Path(source) / FILE).is_file() else None
    if asked.train_epochs is not None and (run is None or weights is not None):
        raise misused("--train-epochs: for a search's folder without --weights, whose networks are trained first")
    folder = out or Path("results") / _default_name(source, weights, data_values.dataset, asked.seed)
    check_folder(folder)
    check_no_search(folder)
    # Wrong weights are reported before the data are read.
    if run is None:
        starts = [_start(source, weights, folder)]
    else:
        starts = [] if weights is None and run.front() else front_starts(run, weights, folder)
    with joined(asked.device) as (group, device):
        asked = replace(asked, device=device, quiet=asked.quiet or not group.first)
        with group.in_turn():  # the others use what the first one downloads or decodes
            data = read_images(data_values, streaming, progress=asked.say)
        if run is None:
            _finetune_one(starts[0], data, asked, group, as_json)
            return
        if not starts:
            starts = _train_front_first(run, source, folder, data, asked, group, data_values.download)
        _finetune_front(starts, data, asked, group, as_json)


def _default_name(source: str, weights: str | None, dataset: str, seed: int) -> str:
    from nas.cli.commands.inputs import slug

    start = "" if weights is None else f"-from-{slug(weights)}"
    return f"finetune-{slug(Path(source).stem)}-{slug(dataset)}-seed{seed}{start}"


def _start(source: str, weights: str | None, folder: Path) -> Start:
    """The network `source`, with the given weights, or with those in the same folder."""
    from nas.cli.commands.inputs import read_architecture, weights_file
    from nas.training.full_training_folder import CONFIG

    path = Path(source)
    trained = (path / CONFIG).is_file()
    if weights is None:
        if not trained:
            raise UsageError(
                f"{source}: fine-tuning starts from trained weights; name them with --weights, or give a folder in which "
                "`nas train` has trained"
            )
        weights = source
    return Start(read_architecture(str(path / CONFIG) if trained else source), weights_file(weights), folder)


def _train_front_first(
    run: Run, source: str, folder: Path, data: Dataset | Streamed, options: Options, group: Group, download: bool
) -> list[Start]:
    """Train the networks of a run's front on the data of the search, in `folder/trained`."""
    if options.keep_head:
        _check_classes(tuple(run.config["dataset"]["classes"]), data, source)
    trained = train_front(
        run,
        folder / "trained",
        epochs=FULL_EPOCHS if options.train_epochs is None else options.train_epochs,
        download=download,
        device=options.device,
        precision=options.precision,
        quiet=options.quiet,
        group=group,
    )
    return front_starts(run, str(trained), folder)


def _finetune_one(start: Start, data: Dataset | Streamed, options: Options, group: Group, as_json: bool) -> None:
    from nas.cli.commands.output import print_json

    result = _finetune(start, data, options, group)
    if group.first and as_json:
        print_json(result)
    elif group.first:
        _print_result(start, result)


def _finetune_front(
    starts: list[Start], data: Dataset | Streamed, options: Options, group: Group, as_json: bool
) -> None:
    """Fine-tune one network after the other. If one diverges, the others are still trained, and NasError is raised at the end."""
    from nas.cli.commands.output import note, print_json

    results: list[dict[str, Any]] = []
    failed: list[str] = []
    for number, start in enumerate(starts, 1):
        name = start.folder.name
        options.say(f"\n{name} ({number} of {len(starts)})")
        try:
            result = _finetune(start, data, options, group)
        except UsageError:
            raise
        except NasError as error:
            from nas.training.trainer import Diverged

            # Divergence occurs in all processes of a group. Another error may occur in one of them alone, and must end it:
            # the other processes would wait for it.
            if group.size > 1 and not isinstance(error, Diverged):
                raise
            note(f"{name}: {error}")
            failed.append(name)
            continue
        results.append({"folder": str(start.folder), **result})
        if group.first and not as_json:
            _print_result(start, result)
    if group.first and as_json:
        print_json(results)
    elif group.first and results:
        _print_comparison(results)
    if failed:
        raise NasError(f"{len(failed)} of {len(starts)} networks failed: {', '.join(failed)}")


def _finetune(start: Start, data: Dataset | Streamed, options: Options, group: Group) -> dict[str, Any]:
    """Fine-tune one network, or continue; its result, {} in processes other than the first of `group`."""
    from nas.cli.commands.training_display import print_settings, run_epochs, write_pages
    from nas.networks.weights import read
    from nas.training.full_training import FullTraining, adapted, held_out
    from nas.training.transfer import choose, recipe
    from nas.utils.text import shown

    with group.in_turn():
        weights = read(start.weights, progress=not options.quiet)
    network, changes = adapted(start.architecture, data)
    images, classes = len(held_out(data, options.seed).train_index), len(data.classes)
    chosen, reason = (options.policy, "as asked") if options.policy != "auto" else choose(images, classes)
    policy = options.policy_of(len(network.stages), chosen)
    used = recipe(images, epochs=options.epochs, batch_size=options.batch_size, learning_rate=options.lr)
    policy.check_epochs(used.epochs)
    training = FullTraining(
        start.folder,
        network,
        data,
        used,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        weights=weights,
        rates=policy.rates,
        policy={**policy.described(), "head": "kept" if options.keep_head else "fresh"},
        fresh_head=not options.keep_head,
        group=group,
        workers=options.workers,
    )
    if options.keep_head:
        _check_head(weights, data, fits=training.fitted is None or not training.fitted.fresh)
    with training:
        if training.finished:
            options.say(f"{shown(start.folder.absolute())}: fine-tuned and tested already; this is its result")
        else:
            if not options.quiet:
                print_settings(training, changes)
            pieces = policy.told(used.epochs)
            options.say(f"policy: {policy.kind} ({reason}); {pieces}")
            run_epochs(training, options.quiet)
        result = training.result()
    if group.first:
        write_pages(start.folder)
    return result


def _check_head(weights: Weights, data: Dataset | Streamed, fits: bool) -> None:
    classes = weights.training.get("dataset", {}).get("classes")
    _check_classes(None if classes is None else tuple(classes), data, weights.source, fits)


def _check_classes(have: tuple[str, ...] | None, data: Dataset | Streamed, source: str, fits: bool = True) -> None:
    """UsageError if the head to keep has other classes than the data.

    have: the classes of the head, if they are known. fits: whether the head has as many classes as the data.
    """
    from nas.data.names import key_of_class

    want = data.classes
    same = have is None or [*map(key_of_class, have)] == [*map(key_of_class, want)]
    if not fits or not same:
        known = f"{len(have)} classes ({_some(have)})" if have else "another number of classes"
        raise UsageError(
            f"--keep-head: {source} has {known}, {data.name} has {len(want)} ({_some(want)}); "
            "without --keep-head the classifier starts fresh"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _print_result(start: Start, result: Mapping[str, Any]) -> None:
    from nas.cli.commands.training_display import print_result
    from nas.utils.text import shown

    print_result(result, shown(start.folder.absolute()))


def _print_comparison(results: list[dict[str, Any]]) -> None:
    """A table of the fine-tuned networks of a front."""
    from nas.cli.commands.output import print_table, say
    from nas.utils.text import format_count, format_percent

    say()
    rows = [
        (
            Path(result["folder"]).name,
            format_percent(result["test"]["accuracy"]),
            format_percent(result["test"]["standard_error"]),
            *(format_count(result["cost"][metric]) for metric in ("params", "macs")),
        )
        for result in results
    ]
    print_table(("Network", ">Test acc. %", ">± s.e.", ">Params", ">MACs"), rows)
