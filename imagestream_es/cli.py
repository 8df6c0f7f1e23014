# ruff: noqa: PLC0415 -- a command imports what it needs when it runs, so that help and completion stay quick
"""The command `imagestream-es`: reads settings, calls the service, prints what came of it.

Every setting of `Settings` becomes an option here, in `settings_options`, and nowhere else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from imagestream_es.client import commands
from imagestream_es.settings import Declared, Settings, SettingsError, option_name, variable_name

Progress = Callable[[int, int], None]
"""Called now and then with the number of events done and the number of all."""

_AGAIN = "Nothing is left of it: run it again."

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


_SETTINGS = {setting.name for setting in fields(Settings)}


def settings_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of the settings `names` (none: all), and call it with one `Settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            settings = {name: values.pop(name) for name in list(values) if name in _SETTINGS}
            with _errors_in_one_line():
                command(Settings(**settings), **values)

        decorated: Callable[..., None] = run
        hints = get_type_hints(Settings, include_extras=True)
        for setting in reversed(fields(Settings)):
            if not names or setting.name in names:
                add_option = _option(setting.name, setting.default, hints[setting.name].__metadata__[0])
                decorated = add_option(decorated)
        return decorated

    return decorate


def _option(name: str, default: Any, declared: Declared) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def check(_context: click.Context, _parameter: click.Parameter, text: Any) -> object:
        try:
            if declared.repeated:
                return tuple(declared.parse(each) for each in text)
            return None if text is None else declared.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        option_name(name),
        envvar=variable_name(name),
        show_envvar=True,
        multiple=declared.repeated,
        default=default if default is None or declared.repeated else str(default),
        show_default=True,
        metavar=declared.metavar,
        help=declared.help,
        callback=check,
    )


def _checkpoint(_context: click.Context, _parameter: click.Parameter, text: str | None) -> object:
    from imagestream_es.persistence.merkle import Checkpoint

    try:
        return None if text is None else Checkpoint.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """What an operator can mend is told in one line; anything else is our fault and keeps its traceback."""
    from eventsourcing.persistence import PersistenceError

    from imagestream_es.maintenance import NothingThere
    from imagestream_es.persistence.checkpoints import CheckpointFileInUse
    from imagestream_es.persistence.directory import InUse
    from imagestream_es.recovery.wholeness import Refusal

    ours = SettingsError, InUse, CheckpointFileInUse, NothingThere, Refusal
    try:
        yield
    except (*ours, OSError, PersistenceError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="imagestream-es")
def main() -> None:
    """OpenShift image streams with their whole history.

    An image stream names container images by tags. This service keeps every change of every tag in one
    append-only event log and answers the OpenShift image API, so that kubectl, oc and client libraries work
    with it.

    Start it with `imagestream-es serve`: it listens on http://127.0.0.1:8080 and keeps its log in ./data.

    Every option can also be given as the environment variable shown beside it; the command line wins.
    """


for _command in commands.COMMANDS:
    main.add_command(_command)


@main.command()
@settings_options()
def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Prints one line with the URL when it is ready. On a signal it stops accepting, lets running requests
    finish for at most ten seconds, and exits with status 0.
    """
    from api import create_app
    from imagestream_es import server

    server.serve(settings, create_app)


@main.command()
@click.option("--projection", "names", metavar="NAME", multiple=True, help="Only this one; may be repeated.")
@settings_options("data_dir", "database_url")
def replay(settings: Settings, names: tuple[str, ...]) -> None:
    """Fold all views anew from the event log, also while the service runs.

    Needed when `verify` finds a difference in the views. The log is only read. What is folded stands beside the views
    until it is whole, and then takes their place at once. An interrupted replay leaves them as they are: run it again.
    Beside a service it goes on from where it stood. Where none runs, it takes a third of the time, and none can be
    started until it is done.

    All views are folded together, as one needs another. With --projection only those named are replaced: streams,
    tags, tag_changes, moments, snapshots or images.
    """
    from imagestream_es.recovery.replay import replay

    with _progress("replay", "The views are as they were. Run it again.") as progress:
        replayed = replay(settings, names, progress)
    if replayed.before:
        click.echo(f"Went on behind position {replayed.before}, where a replay was interrupted.")
    click.echo(f"Rebuilt {', '.join(names) or 'the views'} from {replayed.events} events.")


@main.command()
@click.option(
    "--checkpoint",
    metavar="SIZE:ROOT",
    callback=_checkpoint,
    help="Also hold the log against this one, kept elsewhere.",
)
@settings_options("data_dir", "database_url", "checkpoint_file")
def verify(settings: Settings, checkpoint: Any) -> None:
    """Check the event log, and that all that was made of it agrees with it.

    Reads every event, computes the Merkle tree over them, holds it against the tree and the checkpoints that the
    service keeps, and compares all views with a fold of the log. Prints what differs and where, and exits with
    status 1 when something does. The last line holds the log's SIZE:ROOT: keep it somewhere else, and give it to
    --checkpoint another day. The service may run meanwhile; nothing is changed.
    """
    from imagestream_es import verification

    with _progress("verify", "Nothing was changed.") as progress:
        report = verification.verify(settings, progress, checkpoint)
    for difference in report.differences:
        click.echo(difference)
    if report.accepted is not None:
        click.echo(f"The log was accepted as it was on {report.accepted.time}, at {report.accepted.checkpoint}.")
    if report.ok:
        click.echo(f"Verified {report.events} events: the log is sound and all views agree with it.")
        click.echo(f"{report.checkpoints} checkpoints of the service agree with it.")
    click.echo(f"Checkpoint: {report.log}")
    if not report.ok:
        raise SystemExit(1)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@settings_options("data_dir", "database_url")
def backup(settings: Settings, directory: Path) -> None:
    """Make a backup in the new DIRECTORY, also while the service runs.

    It is what the log was at one moment, with all that could not be folded from it again, the names of users
    included: keep it as safe as the log. It holds one file and a manifest with its hash; `restore` brings it back.
    What is interrupted leaves nothing that could pass for a backup.
    """
    from imagestream_es.recovery.backup import backup

    with _progress("backup", _AGAIN, "pages" if settings.database_url is None else "rows") as progress:
        manifest = backup(settings, directory, progress)
    click.echo(f"Backed up {manifest.position} events to {directory}.")
    click.echo(f"Checkpoint: {manifest.checkpoint}")


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--until",
    metavar="POSITION|TIME",
    help="Leave out what came later. SOURCE may then also be the data directory of a service.",
)
@settings_options("data_dir", "database_url")
def restore(settings: Settings, source: Path, until: str | None) -> None:
    """Bring the backup in the directory SOURCE back, into an empty data directory or database.

    Its hashes are checked first. It may come from either kind of store. An interrupted restore leaves nothing: run
    it again. A service that kept checkpoints of more events elsewhere refuses writes on an older log until it is
    started with --accept-log.

    With --until the log is brought back as it was at a position, or at a time as 2026-03-01T12:00Z (without a zone:
    the machine's own).
    """
    from imagestream_es.recovery.backup import restore, restore_until

    with _progress("restore", _AGAIN) as progress:
        if until is None:
            checkpoint = restore(settings, source, progress)
        else:
            checkpoint = restore_until(settings, source, until, progress)
    click.echo(f"Restored {checkpoint.partition(':')[0]} events.")
    click.echo(f"Checkpoint: {checkpoint}")


@main.command()
@click.option(
    "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="A new file; - is standard output."
)
@click.option("--zstd", is_flag=True, help="Compress, as is done by itself for a FILE that ends in .zst.")
@settings_options("data_dir", "database_url")
def export(settings: Settings, output: Path, *, zstd: bool) -> None:
    """Write the event log as JSON Lines, one CloudEvents 1.0 object for each event, also while the service runs.

    Users stand there by their ids; their names are in backups alone.
    """
    from imagestream_es.recovery.export import export

    with _progress("export", _AGAIN) as progress:
        checkpoint = export(settings, output, compress=zstd, progress=progress)
    click.echo(f"Exported {checkpoint.size} events.", err=True)
    click.echo(f"Checkpoint: {checkpoint}", err=True)


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint", metavar="SIZE:ROOT", callback=_checkpoint, help="What `export` said: refuse anything else."
)
@settings_options("data_dir", "database_url")
def import_(settings: Settings, file: Path, checkpoint: Any) -> None:
    """Fill an empty data directory or database with the events in FILE (- is standard input), as `export` wrote them.

    Positions, views and the Merkle tree become the same. Nothing is there before all of it is. An interrupted import
    goes on from where it stood when it is run again with the same file.
    """
    from imagestream_es.recovery.export import import_log

    with _progress("import", "There is no log yet. Run it again: it goes on from here.") as progress:
        imported = import_log(settings, file, checkpoint, progress)
    if imported.before:
        click.echo(f"Went on behind position {imported.before}, where an import was interrupted.")
    click.echo(f"Imported {imported.checkpoint.size} events.")
    click.echo(f"Checkpoint: {imported.checkpoint}")


@main.group()
def principals() -> None:
    """Who is behind the ids by which the event log names users."""


@principals.command("list")
@settings_options("data_dir", "database_url")
def list_principals(settings: Settings) -> None:
    """Print everybody who ever wrote something: id, name, who vouches for it, first and last seen (UTC)."""
    from imagestream_es import maintenance

    rows = [("ID", "NAME", "ISSUER", "FIRST SEEN", "LAST SEEN")] + [
        (one.id, _printable(one.name), _printable(one.issuer), _utc(one.first_seen), _utc(one.last_seen))
        for one in maintenance.principals(settings)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


@principals.command()
@click.argument("name")
@settings_options("data_dir", "database_url")
def forget(settings: Settings, name: str) -> None:
    """Erase the user NAME, whoever vouches for them; also while the service runs.

    The log stays as it is and names them by their id, which from now on tells nothing. If they come back they get
    another one. May be repeated.
    """
    from imagestream_es import maintenance

    gone = maintenance.forget(settings, name)
    found = f"Forgot {gone} user{'s' * (gone > 1)} of that name." if gone else "Nobody of that name is known."
    click.echo(found)


@main.command()
@click.option(
    "--server", metavar="URL", default="http://127.0.0.1:8080", show_default=True, help="The running service."
)
@click.option(
    "--ca-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="IMAGESTREAM_CA_FILE",
    show_envvar=True,
    help="Certificate authorities (PEM) to trust beside those of the system.",
)
@settings_options("registry_webhook_secret_file")
def sweep(settings: Settings, server: str, ca_file: Path | None) -> None:
    """Look in the registry for pushes that the running service was not told of.

    They are lost when the registry ends before it could tell them. Waits until they are found, and exits with
    status 1 if the registry, or a part of it, could not be read.
    """
    from imagestream_es import sweeping
    from imagestream_es.bootstrap import read_secret

    secret = read_secret(settings)
    if secret is None:
        raise SettingsError("registry_webhook_secret_file", "needed: the file that the service was started with.")
    swept = sweeping.request_sweep(server, secret, ca_file)
    click.echo("Looked at {tags} tags in {repositories} repositories, found {repaired} pushes.".format(**swept))
    if swept["failed"]:
        click.echo(f"{swept['failed']} of them could not be read: see the log of the service.", err=True)
        raise SystemExit(1)


@main.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  source <(imagestream-es completion bash)
    zsh:   source <(imagestream-es completion zsh)
    fish:  imagestream-es completion fish | source
    """
    click.echo(_SHELLS[shell](main, {}, "imagestream-es", "_IMAGESTREAM_ES_COMPLETE").source())


def _printable(text: str) -> str:
    """What others chose, such that it does nothing to a terminal."""
    return text if text.isprintable() else ascii(text)


def _utc(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _progress(label: str, again: str, unit: str = "events") -> Iterator[Progress]:
    """Tell how far a long command is, and `again`, how it stands and goes on, if it is interrupted by SIGINT."""
    try:
        with _told(label, unit) as progress:
            yield progress
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. {again}", err=True)
        raise SystemExit(130) from None


@contextmanager
def _told(label: str, unit: str) -> Iterator[Progress]:
    """On a terminal a bar with so many a second and the time left, else a line on stderr for every tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label, unit)
        return
    speed = TextColumn("{task.fields[speed]}")
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(label, total=None, speed="")

        def update(done: int, total: int) -> None:
            rate = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, speed=f"{rate:,.0f} {unit}/s" if rate else "")

        yield update


def _lines(label: str, unit: str) -> Progress:
    tenths = 0

    def update(done: int, total: int) -> None:
        nonlocal tenths
        reached = 10 * done // total if total else 10
        if reached > tenths:
            tenths = reached
            click.echo(f"{label}: {done} of {total} {unit}", err=True)

    return update
