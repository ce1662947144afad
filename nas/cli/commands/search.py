"""`nas search` and `nas resume`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from nas.cli.commands.options import (
    METRICS,
    RATE,
    GpuShare,
    Seconds,
    budget_of,
    budget_options,
    examples,
    going_on_options,
    json_option,
    recipe_options,
    run_argument,
    skip_corrupt_option,
)
from nas.cli.commands.output import Shown
from nas.cli.commands.spaces import SET_HELP
from nas.utils.text import printable

DATASETS = "digits, cifar10, cifar100, svhn, fashion_mnist, mnist"


quiet_option = click.option("--quiet", is_flag=True, help="Show nothing but errors and, at the end, the run's folder.")


@click.command(
    epilog=examples(
        "nas search --space resnext --trials 20",
        "nas search --space resnext --trials 200 --dataset cifar10 --download --gpus-per-trial 0.25",
        "nas search --space resnet --set block=basic --dataset imagefolder:photos --max-params 2M --baseline resnet20",
        "nas search --space my-space.yaml --dataset npz:images.npz --executor local --device cuda",
    )
)
@click.option(
    "--space",
    default="resnext",
    show_default=True,
    help="A shipped space (see `nas spaces`) or the path of a YAML file.",
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
@click.option("--trials", type=int, help="Candidates to train.  [default: 50, or what there is time for]")
@click.option("--hours", type=float, help="Wall time that the search may take (docs/planning.md).")
@click.option("--gpu-hours", type=float, help="The same over all GPUs together.")
@click.option("--dataset", default="digits", show_default=True, help=f"{DATASETS}, imagefolder:PATH or npz:PATH.")
@click.option(
    "--objectives",
    default="accuracy,params,macs",
    show_default=True,
    help="Accuracy, then costs: params, macs (or flops), activations, latency_ms (measured: docs/latency.md).",
)
@click.option(
    "--sampler",
    default="known-cost",
    show_default=True,
    help="known-cost, tpe, nsga2, nsga3, gp, qmc or random: see docs/samplers.md.",
)
@click.option(
    "--stopping",
    default="none",
    show_default=True,
    metavar="POLICY",
    help="Stop candidates early: pareto, asha, mo-asha or none; options as in pareto:epsilon=0.1. See docs/stopping.md.",
)
@budget_options
@click.option("--max-latency-ms", type=float, help="The most milliseconds a batch may take.")
@click.option(
    "--latency-device", default="cpu", show_default=True, help="Where latency is measured: cpu, cuda, cuda:N."
)
@click.option("--latency-batch", default=1, show_default=True, help="Images at once.")
@click.option("--latency-threads", default=1, show_default=True, help="Cores of the CPU.")
@click.option(
    "--epochs", type=int, help="Epochs of each proxy: the whole recipe, shorter.  [default: 10, or by the hours]"
)
@click.option("--batch-size", type=int, help="Default: 128, fewer for small data sets.")
@click.option("--lr", "learning_rate", type=RATE, help="Peak learning rate. Default: 0.1 x batch size / 128.")
@recipe_options
@click.option(
    "--proxy-resolution", type=int, help="Train at this many pixels; costs and configs stay at the images' own."
)
@click.option("--proxy-width", default=1.0, help="Train at this share of all widths, as 0.5; costs and configs stay.")
@click.option(
    "--record-gradients",
    is_flag=True,
    help="Keep each layer's gradient norms, at each training's start, middle and end.",
)
@click.option("--train-fraction", default=1.0, help="Train on this share of the training images; validate on all.")
@click.option(
    "--resolution",
    type=int,
    help="Resize images to this many pixels. Default: as they are, if of one size up to 64, else 64.",
)
@click.option("--max-images", type=int, help="Use so many of the training images, an even share of each class.")
@skip_corrupt_option
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Where data sets lie. Default: $NAS_DATA, else ~/.cache/nas/data.",
)
@click.option("--download", is_flag=True, help="Download the data set if it is not there.")
@click.option("--seed", default=0, show_default=True, help="Of the sampler, the split, the weights and the batches.")
@click.option(
    "--baseline", default="", help="Known nets, or configs, to train first by the same recipe: resnet20,my-net.yaml."
)
@click.option(
    "--executor", default="ray", show_default=True, help="ray (a cluster, or this machine) or local (this process)."
)
@click.option("--workers", default=0, help="Trials at once. Default: as many as fit.")
@click.option(
    "--gpus-per-trial",
    type=GpuShare(),
    help="May be a share, as 0.25, or auto: as many trials on a GPU as its memory holds and a short measurement finds worth it. "
    "Default: auto where there are GPUs.",
)
@click.option("--cpus-per-trial", type=float, help="Default: the cores shared evenly.")
@click.option("--address", help="Of a running Ray cluster, or auto.")
@click.option(
    "--storage",
    metavar="URL",
    envvar="NAS_STORAGE",
    help="Keep the study in a database, as postgresql://USER@HOST/NAME, in place of the run's folder. Default: $NAS_STORAGE, which "
    "hides a password from the list of processes.",
)
@click.option(
    "--trial-timeout",
    type=Seconds(),
    metavar="30m|2h|...",
    help="End a worker that has been at one trial for longer, wherever it hangs. The trial goes on from its last epoch once more, then "
    "fails. With --executor local the whole process ends, and nas resume goes on. Default: no limit.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32 or bf16 (autocast).")
@click.option(
    "--confirm",
    type=int,
    default=0,
    metavar="SEEDS",
    help="At the end train the front again from so many further seeds (`nas confirm`), on top of --hours.  [default: don't]",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder. Default: results/SPACE-DATASET-TIME.")
@quiet_option
@json_option
def search(
    quiet: bool,
    as_json: bool,
    baseline: str,
    confirm: int,
    out: Path | None,
    settings: tuple[str, ...],
    **options: Any,
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
    check(request)  # what is wrong is said before anything else is
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


@click.command(epilog=examples("nas resume results/my-run", "nas resume results/my-run --trials 400"))
@run_argument
@click.option("--trials", type=int, help="New total number of trials. Default: what the run was asked for.")
@going_on_options
@quiet_option
@json_option
def resume(run: Path, quiet: bool, as_json: bool, download: bool, **changes: Any) -> None:
    """Go on with a run that was stopped or died: nothing is trained twice."""
    from nas.searching.search import resume as run_resume

    shown = Shown(quiet, as_json)
    given = {name: value for name, value in changes.items() if value is not None}
    _conclude(run_resume(run, say=shown.say, display=shown.display, download=download, **given), shown)


def _introduce(request: Any, shown: Shown) -> None:
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
            "The default data are 1,797 real 8x8 images of handwritten digits that come along; nothing is downloaded.\n"
            "Your own images: --dataset imagefolder:PATH (one folder a class) or npz:FILE; CIFAR-10: --dataset cifar10 --download."
        )


def _conclude(run: Any, shown: Shown) -> None:
    from nas.cli.commands.front import check_complete, front_data, print_front
    from nas.cli.commands.output import print_json
    from nas.interop.export.trials import file_name
    from nas.report.run.page_data import train_options
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
    shown.say(f"Configs: {path_shown(run.path / 'front')}/  (the front, one file a network)\n")
    front = run.front()
    best = max(range(len(front)), key=lambda k: run.accuracy(front[k]) or 0.0)
    config = run.path / "front" / f"{file_name(front[best], best + 1, digits=max(2, len(str(len(front)))))}.yaml"
    for command, meaning in (
        (f"nas front {folder}", "this table again"),
        (
            f"nas train {path_shown(config)} {train_options(run)}",
            "train the most accurate network by the full recipe, test it once",
        ),
        *(
            []
            if run.by_means
            else [(f"nas confirm {folder}", "train the front again from further seeds, and rank it by means")]
        ),
        (f"nas resume {folder} --trials {2 * max(run.config['trials'], run.trained)}", "search on"),
    ):
        shown.say(f"  {command}\n      {meaning}")
