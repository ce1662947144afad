"""`nas watch`: a run's page, updated live, for the browser on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli.commands.options import examples, run_argument


@click.command(epilog=examples("nas watch results/my-run", "nas watch results/my-run --port 8000 --open"))
@run_argument
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="Port on 127.0.0.1.  [default: a free port]")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def watch(run: Path, port: int | None, show: bool) -> None:
    """Serve a run's page, which is updated as trials end; Ctrl-C stops the server.

    The page is that of `nas report`, for browsers on this machine alone (127.0.0.1). The run may be in progress, killed or
    done; it is not changed. From another machine: `ssh -L 8000:127.0.0.1:8000 HOST`.
    """
    from nas.cli.commands.inputs import read_run
    from nas.cli.commands.output import note
    from nas.report.run.live_server import Server

    read = read_run(run)
    with Server(read.path, port or 0) as server:
        click.echo(server.url)
        note(
            f"{read.config['name']} is {_STATUS[read.status]}; the page is updated as it changes. Ctrl-C stops this server, not the run."
        )
        if show:
            import webbrowser

            if not webbrowser.open(server.url):
                click.echo("no browser could be opened; open the page yourself", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the normal end
            note("")


_STATUS = {
    "running": "in progress",
    "confirming": "being confirmed",
    "done": "done",
    "unfinished": "not finished, and no process works on it",
}
