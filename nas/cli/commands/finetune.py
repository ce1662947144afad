"""`nas finetune`: trained networks trained on, on other data: one, or each of a run's front."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.fronts import Start, front_starts, train_front
from nas.cli.commands.options import (
    data_options,
    device_options,
    examples,
    json_option,
    misused,
    one_argument,
    quiet_option,
    seed_option,
    step_options,
    stream_options,
)
from nas.errors import NasError, UsageError
from nas.training.recipe import FULL_EPOCHS

if TYPE_CHECKING:
    from nas.data import Dataset, Streamed
    from nas.training.distributed import Group
    from nas.training.transfer import Policy

POLICIES = ("auto", "full", "last-stages", "head")  # nas.training.transfer's


@dataclass(frozen=True, slots=True)
class Options:
    """What all the networks of one command have in common."""

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

    def policy_of(self, stages: int, kind: str) -> Policy:
        from nas.training.transfer import BACKBONE_SCALE, Policy

        scale = BACKBONE_SCALE if self.backbone_lr_scale is None else self.backbone_lr_scale
        return Policy(stages, kind, scale, self.stage_decay, self.unfreeze_every)


@click.command(
    epilog=examples(
        "nas finetune resnet50 --weights torchvision:resnet50 --dataset imagefolder:photos --resolution 224",
        "nas finetune trained --dataset imagefolder:photos --resolution 32",
        "nas finetune trained --dataset digits --policy last-stages --stage-decay 0.5 --unfreeze-every 5",
        "nas finetune results/my-run --weights trained-front --dataset imagefolder:photos --resolution 32",
    )
)
@one_argument("source", "CONFIG|TRAINED|RUN", "a search's folder stands for all of its front")
@data_options
@click.option(
    "--weights",
    metavar="SOURCE",
    help="FILE.safetensors or FILE.pth, ours, torchvision's or timm's, torchvision:NAME, or a folder of `nas train`; for a "
    "RUN a folder that holds those of its front.  [default: the weights in TRAINED]",
)
@click.option("--policy", type=click.Choice(POLICIES), default="auto", show_default=True, help="What is trained.")
@click.option(
    "--backbone-lr-scale", metavar="X", type=float, help="Learning rate below the head, times.  [default: 0.3]"
)
@click.option("--stage-decay", metavar="X", type=float, help="Instead: times X for each stage away from the head.")
@click.option(
    "--unfreeze-every",
    metavar="EPOCHS",
    type=int,
    default=0,
    help="Begin with the head, and add a stage each so many epochs.  [default: all at once]",
)
@click.option("--keep-head", is_flag=True, help="Go on with the trained classifier; the classes must be the same.")
@click.option("--epochs", type=int, help="Epochs of the recipe.  [default: 30, more for few images]")
@click.option(
    "--train-epochs",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"For a RUN without --weights: epochs of training before.  [default: {FULL_EPOCHS}]",
)
@step_options("the head")
@seed_option("head, batches and split")
@device_options
@stream_options
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the results.  [default: results/finetune-...]",
)
@json_option
@quiet_option
def finetune(
    source: str,
    dataset: str,
    weights: str | None,
    data_root: Path | None,
    download: bool,
    skip_corrupt: bool,
    stream: bool,
    workers: int | None,
    resolution: int | None,
    out: Path | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Train a trained network on, on other data, and test it once.

    CONFIG is what `nas train` takes; TRAINED a folder in which it has trained. The network is adapted to the data, its
    classifier starts fresh, and all its other weights must fit. Policy full trains all of it, last-stages the head and the
    last half of the stages, head the head alone; auto goes by the number of images, and says what it chose and why. What is
    not trained keeps its weights and its norms' statistics.

    RUN is a search's folder: each network of its front is fine-tuned in a folder of its own. A search keeps no weights: the
    networks of the front are trained first, on the data of the search, by its recipe in --train-epochs, in DIR/trained; or
    give a folder of such trainings as --weights.

    After an interruption the same command goes on behind the last epoch.
    """
    from nas.cli.commands.inputs import check_folder, check_no_search, read_images, read_run
    from nas.cli.commands.output import note, print_json
    from nas.runs.settings import FILE
    from nas.training.recipe import BASE_BATCH, Recipe

    options = Options(**rest)
    if options.backbone_lr_scale is not None and options.stage_decay is not None:
        raise misused("--backbone-lr-scale and --stage-decay: choose one")
    for name, value in (("backbone-lr-scale", options.backbone_lr_scale), ("stage-decay", options.stage_decay)):
        if value is not None and options.policy == "head":
            raise misused(f"--policy head trains the head alone: --{name} has no layers below it to say the rate of")
    # What is wrong with a number, or with the weights of a front, is said before the data are read.
    options.policy_of(1, "full" if options.policy == "auto" else options.policy)
    batch_size = BASE_BATCH if options.batch_size is None else options.batch_size
    Recipe.of(1 if options.epochs is None else options.epochs, batch_size, options.lr)
    run = read_run(Path(source)) if (Path(source) / FILE).is_file() else None
    if options.train_epochs is not None and (run is None or weights is not None):
        raise misused(
            "--train-epochs: goes with a search's folder without --weights, of which the networks are trained first"
        )
    folder = out or Path("results") / _default_name(source, weights, dataset, options.seed)
    check_folder(folder)
    check_no_search(folder)
    starts = [_start(source, weights, folder)] if run is None else []
    if run is not None:
        starts = [] if weights is None and run.front() else front_starts(run, weights, folder)

    from nas.training.distributed import joined

    with joined(options.device) as (group, own):
        options = dataclasses.replace(options, device=own, quiet=options.quiet or not group.first)

        def say(text: str) -> None:
            if not options.quiet:
                note(text)

        with group.in_turn():  # what the first one downloads or decodes is there for the others
            data = read_images(
                dataset,
                stream=stream,
                workers=workers,
                root=data_root,
                download=download,
                resolution=resolution,
                skip_corrupt=skip_corrupt,
                progress=say,
            )
        if run is not None and not starts:
            if options.keep_head:
                _check_classes(tuple(run.config["dataset"]["classes"]), data, source)
            trained = train_front(
                run,
                folder / "trained",
                epochs=FULL_EPOCHS if options.train_epochs is None else options.train_epochs,
                download=download,
                device=own,
                precision=options.precision,
                quiet=options.quiet,
                group=group,
            )
            starts = front_starts(run, str(trained), folder)
        results: list[dict[str, Any]] = []
        failed: list[str] = []
        for number, start in enumerate(starts, 1):
            if run is not None:
                say(f"\n{start.folder.name} ({number} of {len(starts)})")
            try:
                result = _finetune(start, data, options, workers, group)
            except UsageError:
                raise
            except NasError as error:  # one that diverges doesn't keep the others from being trained
                from nas.training.trainer import Diverged

                # Processes diverge together; what one of them alone fails of must end it, or the others wait for it.
                if run is None or (group.size > 1 and not isinstance(error, Diverged)):
                    raise
                note(f"{start.folder.name}: {error}")
                failed.append(start.folder.name)
                continue
            results.append(result if run is None else {"folder": str(start.folder), **result})
            if group.first and not as_json:
                _conclude(start, result)
    if group.first and as_json:
        print_json(results[0] if run is None else results)
    elif group.first and results and run is not None:
        _compare(results)
    if failed:
        raise NasError(f"{len(failed)} of {len(starts)} networks failed: {', '.join(failed)}")


def _default_name(source: str, weights: str | None, dataset: str, seed: int) -> str:
    from nas.cli.commands.inputs import slug

    begun_from = "" if weights is None else f"-from-{slug(weights)}"
    return f"finetune-{slug(Path(source).stem)}-{slug(dataset)}-seed{seed}{begun_from}"


# -- where networks and weights come from -----------------------------------------------------------------------------


def _start(source: str, weights: str | None, folder: Path) -> Start:
    """The one network that is named, with the weights that are named or lie beside it."""
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


# -- one network -------------------------------------------------------------------------------------------------------


def _finetune(
    start: Start, data: Dataset | Streamed, options: Options, workers: int | None, group: Group
) -> dict[str, Any]:
    """Fine-tune one network, or go on with it; its result, which the first process of a group has."""
    from nas.cli.commands.output import note
    from nas.cli.commands.train import introduce, leave, run_epochs
    from nas.networks.weights import read
    from nas.training.full_training import FullTraining, adapted, held_out
    from nas.training.transfer import choose, recipe
    from nas.utils.text import shown

    with group.in_turn():
        weights = read(start.weights, progress=not options.quiet)
    network, changes = adapted(start.architecture, data)
    images, classes = len(held_out(data, options.seed).train_index), len(data.classes)
    chosen, why = (options.policy, "as asked") if options.policy != "auto" else choose(images, classes)
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
        workers=workers,
    )
    if options.keep_head:
        said = weights.training.get("dataset", {}).get("classes")
        fits = training.fitted is None or not training.fitted.fresh
        _check_classes(None if said is None else tuple(said), data, weights.source, fits)
    with training:
        if training.finished:
            if not options.quiet:
                note(f"{shown(start.folder.absolute())}: fine-tuned and tested already; this is its result")
        else:
            if not options.quiet:
                introduce(training, changes)
                note(f"policy: {policy.kind} ({why}); {policy.told(used.epochs)}")
            run_epochs(training, options.quiet)
        result = training.result()
    if group.first:
        leave(start.folder)
    return result


def _check_classes(have: tuple[str, ...] | None, data: Dataset | Streamed, source: str, fits: bool = True) -> None:
    """UsageError if the head that is to be kept tells other classes apart than the data's.

    have: those of the head, if they are known. fits: whether it has as many as the data.
    """
    from nas.data.names import key_of_class

    want = data.classes
    same = have is None or [*map(key_of_class, have)] == [*map(key_of_class, want)]
    if not fits or not same:
        known = f"{len(have)} classes ({_some(have)})" if have else "another number of classes"
        raise UsageError(
            f"--keep-head: {source} tells {known} apart, {data.name} has {len(want)} ({_some(want)}); "
            "without --keep-head the classifier starts fresh"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _conclude(start: Start, result: Mapping[str, Any]) -> None:
    from nas.cli.commands.train import conclude
    from nas.utils.text import shown

    conclude(dict(result), shown(start.folder.absolute()))


def _compare(results: list[dict[str, Any]]) -> None:
    """The networks of a front, as fine-tuned, in a table."""
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
