"""From an HTTP request to a handler and back: every route of every resource goes through `serve`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
import yaml
from flask import Request

from api import bodies, managed_fields, tables
from api.access import CERTIFICATE, Identity, allows, authenticate, authorize, forbidden, identify, may_pull
from api.as_of import IMMUTABLE, go_back
from api.bodies import MAX_BODY
from api.call import Answer, Call, Door, InvalidOptions, is_set, position
from api.drawn import Text, drawn
from api.errors import Refusal, invalid, qualified, status
from api.headers import header
from api.idempotency import KEY, REPLAYED, done, once, recalled, take_key
from api.kept import Kept
from api.listing import Selection, answer_page, await_position, exact_position, page_of
from api.negotiation import Form, negotiate
from api.patch import APPLY_PATCH, IMAGE_LISTS, PatchError, apply_patch
from api.preconditions import take_annotations, take_headers
from api.ready import Ready, behind_head, packed
from api.reply import Awaited, Reply
from api.resource import Resource
from api.resources.options import delete_expected
from api.schemas.fields import print_time
from api.told import told, verb_of
from api.validation import known
from api.watch import Watch, options_of
from imagestream_es.access.certificates import has_expired
from imagestream_es.access.gate import Gate
from imagestream_es.access.policy import Action
from imagestream_es.application.commands import Caller, Expected
from imagestream_es.application.limits import TooMany
from imagestream_es.application.writer import Unavailable
from imagestream_es.bootstrap import Services
from imagestream_es.domain.errors import (
    AlreadyDone,
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    TagMoved,
)
from imagestream_es.domain.events import Origin
from imagestream_es.domain.references import namespace_problem, path_segment_problem
from imagestream_es.later import Begun

logger = logging.getLogger(__name__)

FORMS = (Form.JSON, Form.YAML, Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST)
OF_ONE = {"get": "GET", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
OF_ALL = {"list": "GET", "create": "POST", "deletecollection": "DELETE"}
"""The methods of an object's path and of a collection's, by their verbs."""
PASSED_OVER = 16 * 1024 * 1024
"""How many bytes of a body that is too long are read and forgotten."""
CHUNK = 64 * 1024

CROWD = 64
"""How many writes may wait for the writer before others wait in their threads, so that no more are taken in."""
PATCH_TRIES = 5
KUBECTL = "kubectl"
"""The manager that `kubectl apply --server-side` is unless it is told otherwise"""
ABOUT_NOW = {"fieldSelector", "labelSelector", "limit", "pretty", "resourceVersion", "timeout", "timeoutSeconds"}
"""Parameters of reads that the answer depends on as on what is stored now, or not at all."""
LONGEST_WARNING = 256
MAX_WARNINGS = 4096
"""Characters of all warnings of one answer; many clients refuse headers beyond a few times that."""


def serve(
    request: Request,
    services: Services,
    door: Door,
    resource: Resource,
    namespace: str,
    name: str,
    sub: str = "",
    *,
    watched: bool = False,
) -> Reply | Awaited:
    """Answer a request for a resource, whatever comes of it.

    `watched` stands for a path below `/watch/`: the older spelling of a watch, which JavaScript clients use.
    """
    about = told(request)
    about.resource, about.namespace, about.name = resource.name, namespace, name
    about.verb = verb_of(request.method, named=bool(name), watching=watched)
    call: Call | None = None
    end: Callable[[], None] | None = None
    begun: Begun | None = None
    try:
        user = authenticate(request, services.gate)
        end = services.limits.begin(user.name)
        identity = identify(request, services.gate, user)
        args = watch_args(request.args, name) if watched else request.args
        action = _action(request, door, resource, namespace, "" if watched else name, sub, args, watched=watched)
        authorize(services.gate, identity.user, action)
        target = _target(resource, sub, door)
        about.resource = f"{resource.name}/{sub}" if sub else resource.name
        form = negotiate(header(request, "Accept"), FORMS)
        if form is None:
            accepted = "application/json, application/yaml"
            raise Refusal(406, f"only the following media types are accepted: {accepted}")
        at = services.clock()
        call = Call(
            services=services,
            door=door,
            namespace=namespace,
            name="" if watched else name,
            args=args,
            user=identity.user,
            action=action,
            identify=lambda: _caller(services, identity, at, about.audit_id, action),
            media_type=request.mimetype,
            data=read_body(request),
            agent=header(request, "User-Agent") or "",
            kind=target.kind,
        )
        take_headers(call, target, request)
        take_key(call, target, request)
        go_back(call, target, "GET" if request.method == "HEAD" else request.method)
        if _is_watch(request, target, call):
            about.verb = verb_of(request.method, named=False, watching=True)
            response = _watch(target, call, form, _admission(request, services.gate, identity, action))
            about.lasting = True
        else:
            if request.method in ("GET", "HEAD"):
                response = _read(request, target, resource, call, form)
            else:
                response, begun = _write(request, target, resource, call, form)
            if call.settled:
                response.put("Cache-Control", IMMUTABLE)
                response.put("Vary", "Accept, Accept-Encoding, Authorization")
    except Exception as error:
        response = failure(request, error, door, resource.name, call)
    finally:
        if end is not None and begun is None:
            end()
    if begun is None:
        return response
    return Awaited(begun, response, lambda error: failure(request, error, door, resource.name, call), end)


def _admission(request: Request, gate: Gate, identity: Identity, action: Action) -> Callable[[], bool]:
    """What tells whether a request would be let in now as it was, by the rules and credentials that hold then."""
    again = Request(request.environ)  # of Flask's own nothing is left once the answer has begun

    certificate = request.environ.get(CERTIFICATE)

    def admitted() -> bool:
        if certificate is not None and has_expired(certificate):
            return False
        try:
            return identify(again, gate, authenticate(again, gate)) == identity and allows(gate, identity.user, action)
        except Refusal:
            return False

    return admitted


def _action(
    request: Request,
    door: Door,
    resource: Resource,
    namespace: str,
    name: str,
    sub: str,
    args: Mapping[str, str],
    *,
    watched: bool,
) -> Action:
    """What a request wants to do, as rules name it.

    A list or watch of one name by a field selector counts as one of that object. A namespace is in itself.
    """
    watching = watched or (request.method == "GET" and not name and is_set(args, "watch"))
    verb = verb_of(request.method, named=bool(name), watching=watching)
    if verb in ("list", "watch"):
        name = _selected(args, resource)
    if resource.name == "namespaces":
        namespace = name
    return Action(verb, door.group, f"{resource.name}/{sub}" if sub else resource.name, namespace, name)


def _selected(args: Mapping[str, str], resource: Resource) -> str:
    """The one name that a field selector asks for, "" for none."""
    if not args.get("fieldSelector"):
        return ""
    try:
        return Selection({"fieldSelector": args["fieldSelector"]}, resource.fields).name or ""
    except Refusal:
        return ""


def _caller(services: Services, identity: Identity, at: int, audit_id: str, action: Action) -> Caller:
    """Who commands, as events name them: the user, and who acts as them, if anybody does. Raises Unavailable."""
    id_of, user, gate = services.principals.id_of, identity.user, services.gate
    acting = "" if identity.impersonator is None else id_of(identity.impersonator)
    return Caller(
        by=Origin(at=at, actor=id_of(user), impersonator=acting, door="api", request=audit_id),
        may_pull=partial(may_pull, gate, user),
        may_create=action.verb == "create" or allows(gate, user, creation(action)),
    )


def creation(action: Action) -> Action:
    """The action of making what another one writes, which it needs too if that is not there yet."""
    return dataclasses.replace(action, verb="create")


def _warn(response: Reply, warnings: Iterable[str]) -> None:
    """Tell warnings as headers, as many as clients surely read; what a client wrote in them cannot break out."""
    left = MAX_WARNINGS
    for text in warnings:
        quoted = text[:LONGEST_WARNING].encode("unicode_escape").decode().replace("\\", "\\\\").replace('"', '\\"')
        left -= len(quoted)
        if left < 0:
            return
        response.headers.append(("Warning", f'299 - "{quoted}"'))


def watch_args(args: Mapping[str, str], name: str) -> dict[str, str]:
    """The parameters of the watch that a path below `/watch/` stands for."""
    selectors = [args.get("fieldSelector", ""), f"metadata.name={name}" if name else ""]
    return {**args, "watch": "true", "fieldSelector": ",".join(filter(None, selectors))}


def _target(resource: Resource, sub: str, door: Door) -> Resource:
    if not sub:
        return resource
    found = resource.subresources.get(sub)
    if found is None or (door.legacy and not found.legacy):
        raise Refusal(404, "the server could not find the requested resource")
    return found


def read_body(request: Request) -> bytes:
    """The body of a request.

    Raises Refusal: 413 for one that is too long, and 400 for one that did not come whole, for what was left out
    might have been a precondition.
    """
    length = request.content_length or 0
    stream = request.environ["wsgi.input"] if length else request.stream
    data: bytes = stream.read(length or MAX_BODY + 1) if length <= MAX_BODY else b""
    if max(length, len(data)) > MAX_BODY:
        _pass_over(request, length)
        raise Refusal(413, f"the request body may have at most {MAX_BODY} bytes", headers={"Connection": "close"})
    # The server hands over what came of a chunked body before it broke off: nothing at all is not to be believed.
    if len(data) < length or (not data and header(request, "Transfer-Encoding") is not None):
        raise Refusal(400, "the request body did not come whole")
    return data


def _pass_over(request: Request, length: int) -> None:
    """Read on for a while: many clients see no answer before they have sent everything."""
    if length > PASSED_OVER or header(request, "Expect") is not None:
        return
    for _ in range(PASSED_OVER // CHUNK):
        if not request.stream.read(CHUNK):
            return


def _is_watch(request: Request, target: Resource, call: Call) -> bool:
    if request.method != "GET" or call.name or "list" not in target.verbs or not is_set(call.args, "watch"):
        return False
    check_path(call)
    if "watch" not in target.verbs:
        raise _not_allowed(target, OF_ALL)
    return True


def check_path(call: Call) -> None:
    """Raises Refusal for what cannot be the name of a namespace, or of anything."""
    problem = namespace_problem(call.namespace) if call.namespace else None
    if problem:
        raise Refusal(400, f'invalid namespace "{call.namespace[:80]}": {problem}')
    problem = path_segment_problem(call.name)
    if problem:
        raise Refusal(400, f'Name parameter invalid: "{call.name[:80]}": {problem}')


def _handle(request: Request, target: Resource, call: Call, resource: Resource) -> Answer:
    check_path(call)
    method = "GET" if request.method == "HEAD" else request.method
    if call.name:
        if resource.namespaced and not call.namespace:
            raise Refusal(404, "the server could not find the requested resource")
        match method:
            case "GET" if target.get is not None:
                call.at = exact_position(call.args) if call.at is None else call.at
                await_version(call)
                return target.get(call)
            case "PUT" if target.update is not None:
                return target.update(call, _body(target, call))
            case "PATCH" if target.base is not None:
                return _patch(target, call)
            case "DELETE" if target.delete is not None:
                return target.delete(call)
    elif resource.namespaced and not call.namespace and method != "GET":
        raise _not_allowed(target, {"list": "GET"})
    else:
        match method:
            case "GET" if target.list is not None:
                return target.list(call)
            case "GET" if target.find is not None:
                return _list(target, call)
            case "POST" if target.create is not None:
                return target.create(call, _body(target, call))
            case "DELETE" if "deletecollection" in target.verbs:
                return _delete_collection(target, call)
    raise _not_allowed(target, OF_ONE if call.name else OF_ALL)


def _body(target: Resource, call: Call) -> dict[str, Any]:
    body = call.body()
    take_annotations(call, target, body, lambda: _live(target, call) if call.name else None)
    return body


def _not_allowed(target: Resource, methods: Mapping[str, str]) -> Refusal:
    allowed = ", ".join(method for verb, method in methods.items() if verb in target.verbs)
    message = "the server does not allow this method on the requested resource"
    return Refusal(405, message, headers={"Allow": allowed})


def await_version(call: Call) -> None:
    """A read of one object may ask for what is at least as new as a resourceVersion."""
    wanted = position(call.args.get("resourceVersion", ""))
    if wanted:
        await_position(call, wanted)


def _list(target: Resource, call: Call) -> Answer:
    assert target.find is not None
    page, selection = page_of(call), Selection(call.args, target.fields)
    listed = target.find(call, page.at)
    return answer_page(page, selection, listed.found, listed.position)


def _delete_collection(target: Resource, call: Call) -> Answer:
    """Delete the objects that the selectors choose, one after another."""
    assert target.delete is not None
    # Options that cannot be read are refused, whatever there is to delete.
    expected = delete_expected(call)
    call.dry  # noqa: B018 (raises for a dryRun that is not one)
    if call.key and not call.dry:
        return _delete_together(target, call, expected)
    found = _list(target, call).body
    deleted = []
    for item in found["items"]:
        metadata = item["metadata"]
        one = dataclasses.replace(call, name=metadata["name"], namespace=metadata.get("namespace", ""))
        try:
            target.delete(one)
        except NotFound:  # somebody else was faster
            continue
        deleted.append(item)
    return Answer({"metadata": found["metadata"], "items": deleted}, is_list=True)


def _delete_together(target: Resource, call: Call, expected: Expected) -> Answer:
    """Delete the objects that the selectors choose all at once, and answer them as they were right before."""
    if call.done is None:
        metadata = [item["metadata"] for item in _list(target, call).body["items"]]
        objects = [(one.get("namespace", ""), one["name"]) for one in metadata]
        call.services.commands.delete_together(call.caller, target.name, objects, expected)
        call = recalled(call) or call
    assert call.done is not None
    assert target.find is not None
    left = {_identity(item) for item in target.find(call, call.done.after).found if not _terminating(item)}
    found = _list(target, call).body
    return Answer({**found, "items": [item for item in found["items"] if _identity(item) not in left]}, is_list=True)


def _identity(item: dict[str, Any]) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"], metadata["uid"]


def _terminating(item: dict[str, Any]) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _watch(target: Resource, call: Call, form: Form, admitted: Callable[[], bool]) -> Reply:
    """A watch: the answer's lines come as the log grows."""

    def show(item: dict[str, Any]) -> dict[str, Any]:
        answer = Answer(item)
        _name(answer, target, target, call)
        return item if form in (Form.JSON, Form.YAML) else _reduced(answer, form, target, call)

    selection, options = Selection(call.args, target.fields), options_of(call)
    show({"metadata": {}})  # refuses what no line can be shown as, while that can still be told
    if call.services.hub.count >= call.services.settings.watches:
        message = "as many watches are open as this server has room for; try again later"
        raise Refusal(429, message, retry_after=1)
    shape = call.door.prefix, form, call.args.get("includeObject", "")
    watch = Watch(call, target, selection, options, shape, show, admitted)
    headers = [("Content-Type", Form.JSON.content_type), ("Cache-Control", "no-cache, private")]
    return Reply(200, headers, watch)


def _patch(target: Resource, call: Call) -> Answer:
    """Apply a patch to the object as it is, and write the outcome as a PUT would.

    A patch that names no resourceVersion is tried again when somebody else was faster.
    """
    assert target.base is not None
    assert target.update is not None
    if call.media_type == APPLY_PATCH:
        return _apply(target, call)
    if call.args.get("force", "") in ("true", "1"):
        raise InvalidOptions(Problem.FORBIDDEN, "force", "may not be specified for non-apply patch")
    bodies.refuse_nul(call.data)
    for attempt in range(PATCH_TRIES):
        before = target.base(call)
        after = apply_patch(call.media_type, call.data, before, IMAGE_LISTS)
        if not isinstance(after.get("metadata"), dict):
            raise Refusal(400, "a patch must leave metadata an object")
        take_annotations(call, target, after, lambda: before)  # noqa: B023 (it is asked at once)
        unconditional = after["metadata"].get("resourceVersion") == before["metadata"]["resourceVersion"]
        call.unconditional = unconditional
        try:
            answer = target.update(call, after)
            return Answer(answer.body, 200, answer.is_list)
        except Conflict:
            if not unconditional or attempt == PATCH_TRIES - 1:
                raise
    raise AssertionError


def _apply(target: Resource, call: Call) -> Answer:
    """Server-side apply: the body is what its manager wants; the object is made if it is not there."""
    if not call.args.get("fieldManager"):
        raise InvalidOptions(Problem.REQUIRED, "fieldManager", "is required for apply patch")
    applied = _applied(target, call)
    take_annotations(call, target, applied, lambda: _live(target, call))
    # Only streams and images tell their managers; elsewhere nobody can be in the way.
    force = call.args.get("force", "") in ("true", "1") or target.shown is None
    for attempt in range(PATCH_TRIES):
        live = _live(target, call)
        try:
            merged = managed_fields.apply(
                live,
                applied,
                manager=call.manager,
                force=force,
                time=print_time(call.caller.by.seconds) or "",
                api_version=call.door.api_version,
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        if call.manager == KUBECTL:
            merged = managed_fields.with_last_applied(merged, applied)
        # What is to be known again goes through the writer, though it changes nothing.
        if live is not None and merged == live and call.guard is None and not call.key:
            call.seen = live["metadata"]["resourceVersion"]
            return Answer(live)
        managers = merged["metadata"].pop("managedFields", [])
        # A tag has no managers of its own: what its stream gains by it counts as an update of the stream.
        call.applied = None if target.shown is None else managers
        try:
            return _write_applied(target, call, live, applied, merged)
        except (Conflict, AlreadyExists):
            if applied["metadata"].get("resourceVersion") or attempt == PATCH_TRIES - 1:
                raise
    raise AssertionError


def _applied(target: Resource, call: Call) -> dict[str, Any]:
    """The body of an apply, without what this manager may not write here."""
    body = call.of_kind(bodies.decode_yaml(call.data))
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Refusal(400, "metadata must be an object")
    applied = {key: value for key, value in body.items() if key != "status" or target.name == "status"}
    applied["metadata"] = dict(metadata or {})
    if applied["metadata"].get("managedFields") is not None:
        raise Refusal(400, "metadata.managedFields must be nil")
    assert target.schema is not None
    call.load(target.schema, applied)
    return known(target.schema, applied)


def _live(target: Resource, call: Call) -> dict[str, Any] | None:
    assert target.base is not None
    try:
        return target.base(call)
    except NotFound:
        return None


def _write_applied(
    target: Resource, call: Call, live: dict[str, Any] | None, applied: dict[str, Any], merged: dict[str, Any]
) -> Answer:
    assert target.update is not None
    warnings, metadata = call.warnings, merged["metadata"]
    if live is None and target.create is not None:
        authorize(call.services.gate, call.user, creation(call.action))
        metadata["name"] = metadata.get("name") or call.name
        if metadata["name"] != call.name:
            raise Refusal(
                400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            )
        answer = target.create(call, merged)
    else:
        if live is None:
            raise NotFound(target.name, call.name)
        metadata["resourceVersion"] = applied["metadata"].get("resourceVersion") or live["metadata"]["resourceVersion"]
        answer = target.update(call, merged)
    call.warnings = warnings
    return answer


# --- answers


def _write(
    request: Request, target: Resource, resource: Resource, call: Call, form: Form
) -> tuple[Reply, Begun | None]:
    """The answer to a write, and what it is an answer to once that has come about, if it has not yet."""
    answer, call = once(call, lambda call: _handle(request, target, call, resource))
    if call.services.commands.writer.waiting > CROWD:
        answer = done(answer)
    shown, form = _shown(answer, form, target, resource, call)
    response = respond(request, shown, answer.code, form)
    if call.done is not None:
        response.put(REPLAYED, "true")
    _warn(response, call.warnings)
    return response, answer.begun


def _read(request: Request, target: Resource, resource: Resource, call: Call, form: Form) -> Reply:
    stamps = None
    if target.told_by is not None and form is not Form.TABLE and _is_about_now(call):  # tables tell ages
        stamps = call.services.freshness.stamps(target.told_by(call))
    text = _text(request, target, resource, call, form)
    encodings = header(request, "Accept-Encoding") or ""
    ready = Ready(text.parts, form.content_type, encodings, text.position, text.digest)
    if stamps is not None and text.lasts:
        about = told(request)
        about.kept = Kept(ready, stamps, call.action, about.name)
    return ready.answer(request.environ)


def _is_about_now(call: Call) -> bool:
    return call.at is None and call.args.keys() <= ABOUT_NOW and call.args.get("resourceVersion", "") in ("", "0")


def _text(request: Request, target: Resource, resource: Resource, call: Call, form: Form) -> Text:
    """What answers a read."""
    check_path(call)
    text = drawn(target, call) if form is Form.JSON and _is_about_now(call) else None
    if text is not None:
        return text
    answer = _handle(request, target, call, resource)
    shown, form = _shown(answer, form, target, resource, call)
    encoded, metadata = encode(shown, form, request), shown["metadata"]
    position = int(metadata.get("resourceVersion", 0)) if answer.is_list else 0
    rest = behind_head(encoded, position) if position else encoded
    if rest is None:
        return Text((encoded,), lasts=False)
    return Text((rest,), position, lasts="continue" not in metadata)


def _shown(answer: Answer, form: Form, target: Resource, resource: Resource, call: Call) -> tuple[dict[str, Any], Form]:
    """What is sent, and how it is encoded."""
    body = answer.body
    if body.get("kind") == "Status":
        return body, form
    if call.dry:
        _forget_version(body, call.seen)
    _name(answer, target, resource, call)
    if form in (Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST):
        return _reduced(answer, form, resource, call), Form.JSON
    return body, form


def _forget_version(body: dict[str, Any], seen: str) -> None:
    """A dry run answers the version that was there before, or none: the next real one is somebody else's."""
    for item in (body, (body.get("status") or {}).get("import") or {}):
        metadata = item.get("metadata", {})
        if metadata.pop("resourceVersion", None) and seen:
            metadata["resourceVersion"] = seen


def _name(answer: Answer, target: Resource, resource: Resource, call: Call) -> None:
    body, version = answer.body, call.door.api_version
    if answer.is_list:
        body["kind"], body["apiVersion"] = target.kind + "List", version
    else:
        body["kind"], body["apiVersion"] = target.kind, version
    if call.door.legacy:
        for item in body["items"] if answer.is_list else (body,):
            if "name" in item["metadata"]:  # a watch's bookmark has none
                _link(item["metadata"], resource, call.door)


def _link(metadata: dict[str, Any], resource: Resource, door: Door) -> None:
    space = f"/namespaces/{metadata['namespace']}" if resource.namespaced else ""
    metadata["selfLink"] = f"{door.prefix}{space}/{resource.name}/{metadata['name']}"


def _reduced(answer: Answer, form: Form, resource: Resource, call: Call) -> dict[str, Any]:
    body = answer.body
    items = body["items"] if answer.is_list else [body]
    if form is Form.TABLE:
        include = call.args.get("includeObject", "") or "Metadata"
        version = body["metadata"].get("resourceVersion", "")  # what is not stored has none
        metadata = body["metadata"] if answer.is_list else {"resourceVersion": version}
        try:
            return tables.render(
                resource.name, items, now=datetime.now(UTC), include_object=include, list_metadata=metadata
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
    partial = [
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        for item in items
    ]
    if not answer.is_list:
        return partial[0]
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": body["metadata"],
        "items": partial,
    }


def encode(body: dict[str, Any], form: Form, request: Request) -> bytes:
    """A wire object as text, indented if the request asks for `pretty`."""
    if form is Form.YAML:
        return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    pretty = orjson.OPT_INDENT_2 if request.args.get("pretty", "").lower() in ("true", "1") else 0
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE | pretty)


def respond(request: Request, body: dict[str, Any], code: int = 200, form: Form = Form.JSON) -> Reply:
    """The HTTP answer that holds a wire object, which is of this moment alone."""
    parts, headers = packed((encode(body, form, request),), header(request, "Accept-Encoding") or "")
    return Reply(code, [("Content-Type", form.content_type), *headers], [*parts])


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (a repeated value is written out)
        return True


def failure(request: Request, error: Exception, door: Door, resource: str, call: Call | None = None) -> Reply:
    """The answer to a request that failed; what is no refusal is logged, and answered without its text."""
    headers: dict[str, str] = {}
    match error:
        case Refusal():
            details: dict[str, Any] = {"retryAfterSeconds": error.retry_after} if error.retry_after else {}
            if error.causes:
                details["causes"] = error.causes
            body, headers = status(error.code, error.message, reason=error.reason, details=details), error.headers
        case managed_fields.ApplyConflict():
            causes = [
                {"reason": "FieldManagerConflict", "message": one.message, "field": one.field} for one in error.causes
            ]
            body = status(409, str(error), reason="Conflict", details={"causes": causes})
        case InvalidOptions():
            body = invalid("ListOptions", "meta.k8s.io", "", [error.problem])
        case PatchError():
            body = status(error.code, error.message, reason=error.reason)
        case Invalid():
            body = invalid(error.kind, door.group, error.name, error.problems)
        case BadRequest():
            body = status(400, error.message)
        case Forbidden() if call is not None:
            refused = forbidden(call.user, creation(call.action))
            body = status(403, refused.message)
        case NotFound() | AlreadyExists() | Conflict() | TagMoved():
            body = _about(error, door)
        case AlreadyDone():
            message = f"this was done before under its {KEY}, and what was answered is not known any more"
            body = status(409, message)
        case TooMany():
            body = status(429, str(error), details={"retryAfterSeconds": error.retry_after})
        case Unavailable():
            # What may be stored already must not be sent again by a client that knows no better, unless under a key.
            again = not error.may_be_stored or (call is not None and call.key)
            body = status(503, str(error), details={"retryAfterSeconds": 1} if again else {})
        case _:
            if call is not None:
                call.log(error, resource)
            else:
                logger.error("a request for %s failed", resource, exc_info=error)
            body = status(500, "Internal error occurred: the server failed to handle the request")
    response = respond(request, body, body["code"])
    seconds = body.get("details", {}).get("retryAfterSeconds")
    if seconds:
        response.put("Retry-After", str(seconds))
    for name, value in headers.items():
        response.put(name, value)
    return response


def _about(error: NotFound | AlreadyExists | Conflict | TagMoved, door: Door) -> dict[str, Any]:
    what = f'{qualified(error.resource, door.group)} "{error.name}"'
    details = {"name": error.name, "group": door.group, "kind": error.resource}
    match error:
        case NotFound():
            code, reason, message = 404, "NotFound", f"{what} not found"
        case AlreadyExists():
            code, reason, message = 409, "AlreadyExists", f"{what} already exists"
        case TagMoved():
            now = error.current or "no image"
            code, reason, message = 412, "PreconditionFailed", f"the precondition failed: {what} names {now} now"
        case _:
            code, reason = 409, "Conflict"
            message = f"Operation cannot be fulfilled on {what}: {error.detail}"
    return status(code, message, reason=reason, details={key: value for key, value in details.items() if value})
