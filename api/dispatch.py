"""From an HTTP request to a handler and back: every route of every resource goes through `serve`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Request

from api.access import CERTIFICATE, Identity, allows, authenticate, authorize, creation, identify, may_pull
from api.answers import encode, failure, named, reduced, rendered, respond, warn
from api.as_of import IMMUTABLE, go_back
from api.bodies import read_body
from api.call import Answer, Call, Door, is_set, position
from api.drawn import Text, drawn
from api.errors import Refusal
from api.headers import header
from api.idempotency import REPLAYED, done, once, recalled, take_key
from api.kept import Kept
from api.listing import Selection, answer_page, await_position, exact_position, page_of
from api.negotiation import Form, negotiate
from api.patches import live_object, patch
from api.preconditions import take_annotations, take_headers
from api.ready import Ready, behind_head
from api.reply import Awaited, Reply
from api.resource import Resource
from api.resources.options import delete_expected
from api.told import told, verb_of
from api.watch import Watch, options_of
from imagestream_es.access.certificates import has_expired
from imagestream_es.access.gate import Gate
from imagestream_es.access.policy import Action
from imagestream_es.application.commands import Caller, Expected
from imagestream_es.bootstrap import Services
from imagestream_es.domain.errors import (
    NotFound,
)
from imagestream_es.domain.events import Origin
from imagestream_es.domain.references import namespace_problem, path_segment_problem
from imagestream_es.later import UnderWay

FORMS = (Form.JSON, Form.YAML, Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST)
OF_ONE = {"get": "GET", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
OF_ALL = {"list": "GET", "create": "POST", "deletecollection": "DELETE"}
"""The methods of an object's path and of a collection's, by their verbs."""

CROWD = 64
"""How many writes may wait for the writer before others wait in their threads, so that no more are taken in."""
ABOUT_NOW = {"fieldSelector", "labelSelector", "limit", "pretty", "resourceVersion", "timeout", "timeoutSeconds"}
"""Parameters of reads that the answer depends on as on what is stored now, or not at all."""


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
    end: Callable[[], None] = _nothing
    begun: UnderWay | None = None
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
        if begun is None:
            end()
    if begun is None:
        return response
    return Awaited(begun, response, lambda error: failure(request, error, door, resource.name, call), end)


def _nothing() -> None:
    pass


def _admission(request: Request, gate: Gate, identity: Identity, action: Action) -> Callable[[], bool]:
    """What tells whether a request would be let in now as it was, by the rules and credentials that hold then."""
    # Of Flask's own nothing is left once the answer has begun.
    again = Request(request.environ, populate_request=False)
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
                return patch(target, call)
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
    take_annotations(call, target, body, lambda: live_object(target, call) if call.name else None)
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
        named(answer, target, target, call)
        return item if form in (Form.JSON, Form.YAML) else reduced(answer, form, target, call)

    selection, options = Selection(call.args, target.fields), options_of(call)
    show({"metadata": {}})  # refuses what no line can be shown as, while that can still be told
    shape = call.door.prefix, form, call.args.get("includeObject", "")
    watch = Watch(call, target, selection, options, shape, show, admitted)
    headers = [("Content-Type", Form.JSON.content_type), ("Cache-Control", "no-cache, private")]
    return Reply(200, headers, watch)


def _write(
    request: Request, target: Resource, resource: Resource, call: Call, form: Form
) -> tuple[Reply, UnderWay | None]:
    """The answer to a write, and what it is an answer to once that has come about, if it has not yet."""
    answer, call = once(call, lambda call: _handle(request, target, call, resource))
    if call.services.commands.writer.waiting > CROWD:
        answer = done(answer)
    shown, form = rendered(answer, form, target, resource, call)
    response = respond(request, shown, answer.code, form)
    if call.done is not None:
        response.put(REPLAYED, "true")
    warn(response, call.warnings)
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
    shown, form = rendered(answer, form, target, resource, call)
    encoded, metadata = encode(shown, form, request), shown["metadata"]
    position = int(metadata.get("resourceVersion", 0)) if answer.is_list else 0
    rest = behind_head(encoded, position) if position else encoded
    if rest is None:
        return Text((encoded,), lasts=False)
    return Text((rest,), position, lasts="continue" not in metadata)
