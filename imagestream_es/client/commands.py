# ruff: noqa: PLC0415 -- a command imports what it needs when it runs, so that help and completion stay quick
"""The commands that ask a running service about the past, and the one that goes back to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from imagestream_es.client.connection import Connection

_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_TARGET = re.compile(
    rf"(?P<namespace>{_NAME})(/(?P<stream>{_NAME})(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(@\{{(?P<at>[^{{}}]+)\}})?)?"
)
_STILL = ("SpecSet", "SpecRemoved", "ImportFailed", "Refreshed")
"""Actions after which a tag names the image that it named before."""


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whom to ask, and call it with a connection."""

    @click.option("--server", metavar="URL", envvar="IMAGESTREAM_SERVER", show_envvar=True, help="The service.")
    @click.option(
        "--token",
        metavar="TOKEN",
        envvar="IMAGESTREAM_TOKEN",
        show_envvar=True,
        help="Who you are; others can read it on the command line: prefer the variable.",
    )
    @click.option(
        "--ca-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="IMAGESTREAM_CA_FILE",
        show_envvar=True,
        help="Certificate authorities (PEM) to trust beside those of the system.",
    )
    @click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
    @wraps(command)
    def run(server: str | None, token: str | None, ca_file: Path | None, **values: Any) -> None:
        from imagestream_es.client.connection import Connection, NoAnswer
        from imagestream_es.client.kubeconfig import Access, WrongConfiguration, current

        try:
            if server is None:
                access = current(os.environ, Path.home())
                access = access if not token else Access(access.server, token, access.ca, verify=access.verify)
            else:
                access = Access(server, token or "")
            if ca_file is not None:
                trusted = ca_file.read_text()
                access = Access(access.server, access.token, trusted, access.certificate, access.key, access.verify)
            command(Connection(access), **values)
        except (NoAnswer, WrongConfiguration, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error

    return run


def _target(
    example: str, needed: tuple[str, ...], more: tuple[str, ...] = ()
) -> Callable[[Any, Any, str], dict[str, str | None]]:
    def parse(_context: click.Context, _parameter: click.Parameter, text: str) -> dict[str, str | None]:
        found = _TARGET.fullmatch(text)
        parts = found.groupdict() if found else {}
        given = {name for name, value in parts.items() if value}
        if not given.issuperset(needed) or not given.issubset({"namespace", *needed, *more}):
            raise click.BadParameter(f"{text!r} is not of the form {example}.")
        return parts

    return parse


def _changes(connection: Connection, target: dict[str, str | None]) -> Iterator[list[dict[str, Any]]]:
    from imagestream_es.client.connection import HISTORY

    wanted = ",".join(f"{name}={target[name]}" for name in ("stream", "tag") if target.get(name))
    path = f"{HISTORY}/namespaces/{target['namespace']}/tagchanges"
    return connection.each(path, {"fieldSelector": wanted} if wanted else {})


@click.command()
@click.argument(
    "target", metavar="NAMESPACE/STREAM[:TAG]", callback=_target("NAMESPACE/STREAM[:TAG]", ("stream",), ("tag",))
)
@asking
def log(connection: Connection, target: dict[str, str | None], output: str) -> None:
    """Print every change of a stream's tags, the newest first; also when they are gone."""
    from imagestream_es.client.printing import Table, moment, short, write_json

    table, found = Table("POSITION", "TIME", "TAG", "ACTION", "FROM", "TO", "ACTOR", "REASON"), False
    for page in _changes(connection, target):
        found = found or bool(page)
        if output == "json":
            write_json(page)
            continue
        table.write(
            (
                str(one["position"]),
                moment(one["time"]),
                one["tag"],
                one["action"],
                short(one.get("from")),
                short(one.get("to")),
                one["actor"],
                one["reason"],
            )
            for one in page
        )
    if not found:
        raise click.ClickException("nothing of that name ever changed, as far as you may see")


@click.command()
@click.argument("target", metavar="NAMESPACE/STREAM", callback=_target("NAMESPACE/STREAM", ("stream",)))
@asking
def blame(connection: Connection, target: dict[str, str | None], output: str) -> None:
    """Print who put the image there that each tag of a stream names now, when, and why."""
    from imagestream_es.client.printing import Table, moment, short, write_json

    newest: dict[str, dict[str, Any]] = {}
    for page in _changes(connection, target):
        for one in page:
            if one["action"] not in _STILL:
                newest.setdefault(one["tag"], one)
    present = [one for _, one in sorted(newest.items()) if one["action"] != "Deleted"]
    if not present:
        raise click.ClickException("no tag of that stream names an image now: log tells what was")
    if output == "json":
        write_json(present)
        return
    Table("TAG", "IMAGE", "ACTOR", "TIME", "POSITION", "ACTION", "REASON").write(
        (
            one["tag"],
            short(one.get("to")),
            one["actor"],
            moment(one["time"]),
            str(one["position"]),
            one["action"],
            one["reason"],
        )
        for one in present
    )


@click.command()
@click.argument(
    "target",
    metavar="NAMESPACE/STREAM:TAG[@{WHEN}]",
    callback=_target("NAMESPACE/STREAM:TAG or NAMESPACE/STREAM:TAG@{WHEN}", ("stream", "tag"), ("at",)),
)
@asking
def show(connection: Connection, target: dict[str, str | None], output: str) -> None:
    """Print what a tag names, or named: `@{2026-03-01T12:00Z}` is a time, `@{3}` is three images ago.

    With `--output json`, the ImageStreamTag as the API answered it then. A time without a zone is the machine's own.
    """
    from imagestream_es.client.connection import IMAGES
    from imagestream_es.client.printing import moment, printable, write_json

    at = _as_of(connection, target)
    path = f"{IMAGES}/namespaces/{target['namespace']}/imagestreamtags/{target['stream']}:{target['tag']}"
    found = connection.get(path, {"asOf": at} if at else {})
    if output == "json":
        write_json([found])
        return
    image = found["image"]["metadata"]["name"]
    shown = [
        ("Tag", f"{target['namespace']}/{target['stream']}:{target['tag']}"),
        ("Image", image),
        ("Pull spec", found["image"].get("dockerImageReference", "")),
    ]
    last = int(found["metadata"]["resourceVersion"])
    moved = (one for page in _changes(connection, target) for one in page if one["action"] not in _STILL)
    change = next((one for one in moved if one["position"] <= last and one.get("to", {}).get("image") == image), None)
    if change is not None:
        shown += [
            ("Since", f"{moment(change['time'])} (position {change['position']})"),
            ("Actor", change["actor"]),
            ("Action", change["action"]),
            ("Reason", change["reason"]),
        ]
    for name, value in shown:
        if value:
            click.echo(f"{name + ':':<11}{printable(str(value))}")


def _as_of(connection: Connection, target: dict[str, str | None]) -> str:
    at = target["at"] or ""
    if not at.isdecimal():
        return _time(at) if at else ""
    ago, last, seen = int(at), "", 0
    moved = (one for page in _changes(connection, target) for one in page if one["action"] not in _STILL)
    for number, change in enumerate(moved):
        image = change.get("to", {}).get("image", "")
        if number == 0 and not image:
            seen = 1  # so that 0 is now: the tag is gone
            if ago == 0:
                raise click.ClickException(
                    f"the tag was deleted at position {change['position']}: @{{1}} is before that"
                )
        if image and image != last:
            if seen == ago:
                return str(change["position"])
            seen, last = seen + 1, image
    raise click.ClickException(f"the tag has not had so many images: it had {seen} in all, and log tells them")


def _time(text: str) -> str:
    """A time that a person wrote, as the service takes it."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise click.ClickException(f"{text!r} is no time as 2026-03-01T12:00Z") from None


def _moment(text: str) -> str:
    return text if text.isdecimal() else _time(text)


@click.command()
@click.argument(
    "target",
    metavar="NAMESPACE[/STREAM]",
    callback=_target("NAMESPACE or NAMESPACE/STREAM", ("namespace",), ("stream",)),
)
@click.argument("start", metavar="FROM")
@click.argument("end", metavar="[TO]", required=False)
@asking
def diff(connection: Connection, target: dict[str, str | None], start: str, end: str | None, output: str) -> None:
    """Print the tags that name something else at TO (or now) than at FROM: positions of the log, or times."""
    from imagestream_es.client.connection import HISTORY
    from imagestream_es.client.printing import Table, short, write_json

    ends = {"from": _moment(start), **({"to": _moment(end)} if end else {})}
    chosen = {"fieldSelector": f"stream={target['stream']}"} if target["stream"] else {}
    table = Table("STREAM", "TAG", "CHANGE", "FROM", "TO", "CHANGES", "LAST ACTOR")
    for page in connection.each(f"{HISTORY}/namespaces/{target['namespace']}/diffs", {**ends, **chosen}):
        if output == "json":
            write_json(page)
            continue
        table.write(
            (
                one["stream"],
                one["tag"],
                one["change"],
                short(one.get("from")),
                short(one.get("to")),
                str(len(one["changes"])),
                one["changes"][-1]["actor"],
            )
            for one in page
        )


@click.command()
@click.argument("digest", nargs=-1, required=True)
@click.option("--namespace", "-n", metavar="NAMESPACE", help="Only there.")
@asking
def where(connection: Connection, digest: tuple[str, ...], namespace: str | None, output: str) -> None:
    """Print every tag that ever named an image, from when until when."""
    from imagestream_es.client.connection import HISTORY
    from imagestream_es.client.printing import Table, moment, write_json

    place = f"{HISTORY}/namespaces/{namespace}/imageusages" if namespace else f"{HISTORY}/imageusages"
    table, found = Table("NAMESPACE", "STREAM", "TAG", "SINCE", "PUT BY", "UNTIL", "REMOVED BY"), False
    for page in connection.each(place, {"image": list(digest)}):
        found = found or bool(page)
        if output == "json":
            write_json(page)
            continue
        table.write(
            (
                one["metadata"]["namespace"],
                one["stream"],
                one["tag"],
                moment(one["since"]["time"]),
                one["putBy"],
                moment(one["until"]["time"]) if "until" in one else "now",
                one.get("removedBy", ""),
            )
            for one in page
        )
    if not found:
        raise click.ClickException("no tag ever named that, as far as you may see: give the whole digest")


@click.command()
@click.argument("target", metavar="NAMESPACE/STREAM:TAG", callback=_target("NAMESPACE/STREAM:TAG", ("stream", "tag")))
@click.option("--to-position", metavar="POSITION", type=click.IntRange(min=1), help="To what it named then.")
@click.option("--changes-ago", metavar="N", type=click.IntRange(min=1), help="Back so many images.")
@click.option("--to-image", metavar="DIGEST", help="To this image, which it named at any time.")
@click.option("--expected-image", metavar="DIGEST", default="", help="Only if this is what it names now.")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept for ever.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and change nothing.")
@asking
def rollback(
    connection: Connection,
    target: dict[str, str | None],
    to_position: int | None,
    changes_ago: int | None,
    to_image: str | None,
    *,
    expected_image: str,
    reason: str,
    dry_run: bool,
    output: str,
) -> None:
    """Move a tag back to an image that it named before, with the tags that follow it.

    Give one of --to-position, --changes-ago and --to-image.
    """
    from imagestream_es.client.connection import HISTORY
    from imagestream_es.client.printing import printable, short, write_json

    aims = {"toPosition": to_position, "changesAgo": changes_ago, "toImage": to_image}
    given = {name: value for name, value in aims.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError("Give one of --to-position, --changes-ago and --to-image.")
    spec = {
        "stream": target["stream"],
        "tag": target["tag"],
        "reason": reason,
        "expectedImage": expected_image,
        **given,
    }
    body = {"apiVersion": HISTORY.removeprefix("/apis/"), "kind": "Rollback", "metadata": {"name": "rollback"}}
    path = f"{HISTORY}/namespaces/{target['namespace']}/rollbacks"
    found = connection.create(path, {"dryRun": "All"} if dry_run else {}, {**body, "spec": spec})
    if output == "json":
        write_json([found])
        return
    status = found["status"]
    before, after = short(status.get("from")) or "nothing", short(status["to"])
    moved = "Would move" if dry_run else "Moved" if "position" in status else "Left"
    where = f" at position {status['position']}" if "position" in status else ""
    name = printable(f"{target['namespace']}/{target['stream']}:{target['tag']}")
    click.echo(f"{moved} {name} from {before} to {after}{where}, which it named since {status['restoredPosition']}.")
    if status["followers"]:
        click.echo(f"With it: {printable(', '.join(status['followers']))}")
    for warning in status.get("warnings", ()):
        click.echo(f"Warning: {printable(warning)}", err=True)


COMMANDS = (log, blame, show, diff, where, rollback)
