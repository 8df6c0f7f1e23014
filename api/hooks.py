"""The registry's door: POST /hooks/registry takes its notifications, POST /hooks/registry/sweep looks for lost ones.

Who knows the webhook's secret may come in here, and nobody else, whatever else they may do.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Callable

import msgspec
from flask import Flask, Request, request

from api.answers import failure, respond
from api.bodies import read_body
from api.call import GROUP_DOOR
from api.errors import Refusal
from api.reply import Reply
from imagestream_es.application.sweep import Stopped
from imagestream_es.bootstrap import Services
from imagestream_es.registry.errors import RegistryError

PATH = "/hooks/registry"

_WRONG = "the webhook's secret is needed"
_NONE = "nobody is let in here: the service was started without --registry-webhook-secret-file"

logger = logging.getLogger(__name__)


def add_hooks(app: Flask, services: Services) -> None:
    """Serve the registry's paths."""

    def notifications() -> Reply:
        try:
            body = read_body(request)
        except Refusal as refusal:
            # An error would come again for ever, with all that is behind it; a sweep finds what it told.
            logger.warning("a notification was too long: %s", refusal.message)
            services.tally.add("too long")
            return respond(request, {"stored": 0, "known": 0}, 202)
        return respond(request, msgspec.to_builtins(services.webhook.receive(body)), 202)

    def sweep() -> Reply:
        try:
            wanted = services.sweeper.request()
            if request.args.get("wait", "") not in ("1", "true"):
                return respond(request, {}, 202)
            return respond(request, msgspec.to_builtins(wanted.result()))
        except (Stopped, RegistryError) as error:
            raise Refusal(503, f"nothing was swept: {error}", retry_after=5) from error

    for path, answer in ((PATH, notifications), (f"{PATH}/sweep", sweep)):
        app.add_url_rule(path, path, _guarded(services, answer), methods=["POST"])


def _guarded(services: Services, answer: Callable[[], Reply]) -> Callable[[], Reply]:
    def view() -> Reply:
        try:
            if not _knows(request, services.webhook_secret):
                headers = {"WWW-Authenticate": 'Bearer realm="registry"'}
                raise Refusal(401, _WRONG if services.webhook_secret else _NONE, headers=headers)
            return answer()
        except Exception as error:
            return failure(request, error, GROUP_DOOR, "notifications")

    return view


def _knows(request: Request, secret: bytes | None) -> bool:
    """Whether a request brings the secret: as a Bearer token, or as the password of Basic."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    told = value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            told = base64.b64decode(told, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return secret is not None and hmac.compare_digest(told, secret)
