"""`nas search` and `nas resume`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.cli.commands.options import (
    METRICS,
    RATE,
    GpuShare,
    GroupedCommand,
    Seconds,
    budget_of,
    budget_options,
    continuing_options,
    examples,
    in_order,
    json_option,
    option,
    recipe_options,
    run_argument,
    skip_corrupt_option,
)
from nas.cli.commands.output import Shown
from nas.cli.commands.spaces import SET_HELP
from nas.utils.text import printable

if TYPE_CHECKING:
    from nas.runs.run import Run
    from nas.searching.request import Request

DATASETS = "digits, cifar10, cifar100, svhn, fashion_mnist, mnist"


quiet_option = option("Output", "--quiet", is_flag=True, help="Print only errors and, at the end, the run's folder.")

space_options = in_order(
    option(
        "Space and budget",
        "--space",
        default="resnext",
        show_default=True,
        help="A shipped space (see `nas spaces`) or the path of a YAML file.",
    ),
    option("Space and budget", "--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP),
    budget_options,
)
search_options = in_order(
    option("Search", "--trials", type=int, help="Candidates to train.  [default: 50, or as many as the hours allow]"),
    option("Search", "--hours", type=float, help="Wall time that the search may take (docs/planning.md)."),
    option("Search", "--gpu-hours", type=float, help="The same, summed over all GPUs."),
    option(
        "Search",
        "--objectives",
        default="accuracy,params,macs",
        show_default=True,
        help="Accuracy, then costs: params, macs (or flops), activations, latency_ms (measured: docs/latency.md).",
    ),
    option(
        "Search",
        "--sampler",
        default="known-cost",
        show_default=True,
        help="known-cost, tpe, nsga2, nsga3, gp, qmc or random: see docs/samplers.md.",
    ),
    option(
        "Search",
        "--stopping",
        default="none",
        show_default=True,
        metavar="POLICY",
        help="Stop candidates early: pareto, asha, mo-asha or none; options as in pareto:epsilon=0.1. See docs/stopping.md.",
    ),
    option(
        "Search",
        "--baseline",
        default="",
        help="Published networks, or configs, to train first by the same recipe: resnet20,my-net.yaml.",
    ),
    option(
        "Search",
        "--confirm",
        type=int,
        default=0,
        metavar="SEEDS",
        help="At the end train the front again from this many further seeds (`nas confirm`), in addition to --hours.  "
        "[default: don't]",
    ),
    option(
        "Search",
        "--seed",
        default=0,
        show_default=True,
        help="Seed of the sampler, the split, the weights and the batches.",
    ),
)
latency_options = in_order(
    option("Latency", "--max-latency-ms", type=float, help="The most milliseconds that a batch may take."),
    option(
        "Latency",
        "--latency-device",
        default="cpu",
        show_default=True,
        help="Where latency is measured: cpu, cuda, cuda:N.",
    ),
    option("Latency", "--latency-batch", default=1, show_default=True, help="Batch size."),
    option("Latency", "--latency-threads", default=1, show_default=True, help="CPU cores."),
)
data_options = in_order(
    option("Data", "--dataset", default="digits", show_default=True, help=f"{DATASETS}, imagefolder:PATH or npz:PATH."),
    option(
        "Data",
        "--data-root",
        type=click.Path(path_type=Path),
        help="Folder of the published data sets. Default: $NAS_DATA, else ~/.cache/nas/data.",
    ),
    option("Data", "--download", is_flag=True, help="Download the data set if it isn't there."),
    option(
        "Data",
        "--resolution",
        type=int,
        help="Resize images to this many pixels. Default: unchanged, if all have one size up to 64, else 64.",
    ),
    option("Data", "--max-images", type=int, help="Use this many of the training images, an even share of each class."),
    skip_corrupt_option,
)
training_options = in_order(
    option(
        "Training",
        "--epochs",
        type=int,
        help="Epochs of each proxy: the whole recipe, shorter.  [default: 10, or as many as the hours allow]",
    ),
    option("Training", "--batch-size", type=int, help="Default: 128, fewer for small data sets."),
    option("Training", "--lr", "learning_rate", type=RATE, help="Peak learning rate. Default: 0.1 x batch size / 128."),
    recipe_options,
    option(
        "Training",
        "--proxy-resolution",
        type=int,
        help="Train at this many pixels; costs and configs are for the images' size.",
    ),
    option(
        "Training",
        "--proxy-width",
        default=1.0,
        help="Train with this share of all widths, for example 0.5; costs and configs are for the full widths.",
    ),
    option(
        "Training",
        "--train-fraction",
        default=1.0,
        help="Train on this share of the training images; validate on all validation images.",
    ),
    option(
        "Training",
        "--record-gradients",
        is_flag=True,
        help="Keep each layer's gradient norms, at each training's start, middle and end.",
    ),
)
machine_options = in_order(
    option(
        "Machine",
        "--executor",
        default="ray",
        show_default=True,
        help="ray (a cluster, or this machine) or local (this process).",
    ),
    option("Machine", "--workers", default=0, help="Trials at once. Default: as many as fit."),
    option(
        "Machine",
        "--gpus-per-trial",
        type=GpuShare(),
        help="May be a share, for example 0.25, or auto: as many trials per GPU as fit into its memory and as a short "
        "measurement finds worthwhile. Default: auto where there are GPUs.",
    ),
    option("Machine", "--cpus-per-trial", type=float, help="Default: the cores shared evenly."),
    option("Machine", "--address", help="Address of a running Ray cluster, or auto."),
    option(
        "Machine",
        "--storage",
        metavar="URL",
        envvar="NAS_STORAGE",
        help="Keep the study in a database, for example postgresql://USER@HOST/NAME, instead of the run's folder. Default: "
        "$NAS_STORAGE, which keeps a password out of the list of processes.",
    ),
    option(
        "Machine",
        "--trial-timeout",
        type=Seconds(),
        metavar="30m|2h|...",
        help="End a worker whose trial takes longer, whatever it waits for. The trial continues once from its last epoch; the "
        "next time it fails. With --executor local the whole process ends; nas resume continues. Default: no limit.",
    ),
    option("Machine", "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    option("Machine", "--precision", default="auto", show_default=True, help="auto, fp32 or bf16 (autocast)."),
)


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "nas search --space resnext --trials 20",
        "nas search --space resnext --trials 200 --dataset cifar10 --download --gpus-per-trial 0.25",
        "nas search --space resnet --set block=basic --dataset imagefolder:photos --max-params 2M --baseline resnet20",
        "nas search --space my-space.yaml --dataset npz:images.npz --executor local --device cuda",
    ),
)
@space_options
@search_options
@latency_options
@data_options
@training_options
@machine_options
@option(
    "Output", "--out", type=click.Path(path_type=Path), help="The run's folder. Default: results/SPACE-DATASET-TIME."
)
@quiet_option
@json_option
def search(
    quiet: bool, as_json: bool, baseline: str, confirm: int, out: Path | None, settings: tuple[str, ...], **options: Any
) -> None:
    """Search a space: train candidates, rank accuracy against exact costs, leave a report and the best networks' configs."""
    from nas.runs.storage import scrubbed
    from nas.searching.request import Request, check
    from nas.searching.search import search as run_search
    from nas.spaces.yaml_format import parse_overrides

    budget = budget_of(*(options.pop(f"{end}_{metric}") for metric in METRICS for end in ("min", "max")))
    free = tuple(name for name in ("trials", "epochs") if options[name] is None)
    for name in free:
        del options[name]
    request = Request(
        **options,
        free=free,
        overrides=parse_overrides(settings),
        budget=budget,
        baselines=tuple(name.strip() for name in baseline.split(",") if name.strip()),
        out=out,
        command=scrubbed(printable(shlex.join(["nas", *sys.argv[1:]])), options["storage"]),
    )
    check(request)  # wrong options are reported before anything else is printed
    if confirm:
        from nas.searching.confirmation import check_seeds

        check_seeds(confirm, "--confirm")
    shown = Shown(quiet, as_json)
    _introduce(request, shown)
    run = run_search(request, say=shown.say, display=shown.display, room_for_seeds=confirm)
    if confirm:
        from nas.cli.commands.confirm import run_confirm

        shown.say("")
        run = run_confirm(run.path, shown, seeds=confirm, storage=options["storage"])
    _conclude(run, shown)


@click.command(
    cls=GroupedCommand, epilog=examples("nas resume results/my-run", "nas resume results/my-run --trials 400")
)
@run_argument
@option("Search", "--trials", type=int, help="New total number of trials. Default: the run's number of trials.")
@continuing_options
@quiet_option
@json_option
def resume(run: Path, quiet: bool, as_json: bool, download: bool, **changes: Any) -> None:
    """Continue a run that was stopped or killed; finished trials are not trained again."""
    from nas.searching.search import resume as run_resume

    shown = Shown(quiet, as_json)
    given = {name: value for name, value in changes.items() if value is not None}
    _conclude(run_resume(run, say=shown.say, display=shown.display, download=download, **given), shown)


def _introduce(request: Request, shown: Shown) -> None:
    from nas.training.proxy import Proxy
    from nas.utils.text import counted

    proxy = Proxy(request.proxy_resolution, request.proxy_width, request.train_fraction)
    smaller = f", at {proxy}" if str(proxy) else ""
    timed = request.hours is not None or request.gpu_hours is not None
    trials = (
        "as many trials as there is time for"
        if timed and "trials" in request.free
        else counted(request.trials, "trial")
    )
    epochs = "" if timed and "epochs" in request.free else f" of {counted(request.epochs, 'epoch')}"
    shown.say(f"Searching space {request.space!r} on {request.dataset}: {trials}{epochs}{smaller}.")
    if request.dataset == "digits":
        shown.say(
            "The default data are 1,797 real 8x8 images of handwritten digits, which are included; nothing is downloaded.\n"
            "Your own images: --dataset imagefolder:PATH (one folder per class) or npz:FILE; CIFAR-10: --dataset cifar10 --download."
        )


def _conclude(run: Run, shown: Shown) -> None:
    from nas.cli.commands.front import check_complete, front_data, print_front
    from nas.cli.commands.output import print_json
    from nas.utils.text import counted, format_seconds
    from nas.utils.text import shown as path_shown

    folder = path_shown(run.path)
    if shown.as_json:
        print_json(front_data(run))
        return
    if shown.quiet:
        check_complete(run)
        click.echo(folder)
        return
    shown.say("")
    print_front(run)
    for session in run.sessions[-1:]:
        share = session["training_seconds"] / max(session["search_seconds"] * session["workers"], 1e-9)
        shown.say(
            f"\nTime: start-up {format_seconds(session['startup_seconds'])}, search {format_seconds(session['search_seconds'])} on "
            f"{counted(session['workers'], 'worker')}, which trained {share:.0%} of it."
        )
    shown.say(f"Report:  {path_shown(run.path / 'report.html')}  (open it in a browser)")
    shown.say(f"Configs: {path_shown(run.path / 'front')}/  (the front, one file per network)\n")
    for command, meaning in _next_commands(run):
        shown.say(f"  {command}\n      {meaning}")


def _next_commands(run: Run) -> list[tuple[str, str]]:
    """Commands that may follow a search, each with its purpose."""
    from nas.interop.export.trials import file_name
    from nas.report.run.page_data import train_options
    from nas.utils.text import shown

    folder = shown(run.path)
    front = run.front()
    best = max(range(len(front)), key=lambda k: run.accuracy(front[k]) or 0.0)
    config = run.path / "front" / f"{file_name(front[best], best + 1, digits=max(2, len(str(len(front)))))}.yaml"
    commands = [
        (f"nas front {folder}", "print this table again"),
        (
            f"nas train {shown(config)} {train_options(run)}",
            "train the most accurate network by the full recipe, and test it once",
        ),
    ]
    if not run.by_means:
        commands.append((f"nas confirm {folder}", "train the front again from further seeds, and rank it by means"))
    trials = 2 * max(run.config["trials"], run.trained)
    return [*commands, (f"nas resume {folder} --trials {trials}", "continue the search")]
