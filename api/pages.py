"""Pages for people: their templates, and headers that let browsers do nothing but show them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

HTML = "text/html; charset=utf-8"

_TEMPLATES = Environment(
    loader=PackageLoader("api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, **values: Any) -> bytes:
    """The page that a template makes of the values."""
    return _TEMPLATES.get_template(template).render(**values).encode()


def security_headers() -> dict[str, str]:
    """What is to be sent with every page: it may use its own styles, and nothing else from anywhere."""
    style = _TEMPLATES.get_template("style.css").render()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{what} {allowed}" for what, allowed in policy.items()),
        "Referrer-Policy": "no-referrer",
    }
