"""Bodies of mappings as a registry sends them when an image is pushed: manifest and config as text, about 4 kB."""

from __future__ import annotations

import hashlib
import json

from bench.endpoint import Endpoint
from bench.load import Request

SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_NEW = "0" * 63 + "N"
"""Where the digest of a new image goes: nothing else in a body looks like it."""

LAYERS = 5


def digest(text: str) -> str:
    """A digest made of a text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def mapping_request(endpoint: Endpoint, stream: str, tag: str, path: str = "") -> Request:
    """A mapping of an image that is new each time it is sent; `path` stands in for that of the mappings."""
    body = mapping(endpoint.namespace, stream, tag, f"sha256:{_NEW}")
    whole = endpoint.head("POST", path or endpoint.mappings, len(body)) + body
    return tuple(whole.split(_NEW.encode()))


def mapping(namespace: str, stream: str, tag: str, image: str) -> bytes:
    """The body of a mapping of an image to a tag. The top layer and the config differ with the image."""
    layers = [{"mediaType": LAYER, "size": 30_000_000 + n, "digest": digest(f"layer {n}")} for n in range(LAYERS - 1)]
    layers.append({"mediaType": LAYER, "size": 1_234_567, "digest": image})
    config = _config()
    manifest = {
        "schemaVersion": 2,
        "mediaType": SCHEMA2,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": image},
        "layers": layers,
    }
    document = {
        "kind": "ImageStreamMapping",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"namespace": namespace, "name": stream},
        "image": {
            "metadata": {
                "name": image,
                "annotations": {
                    "openshift.io/image.managed": "true",
                    "image.openshift.io/manifestBlobStored": "true",
                },
            },
            "dockerImageReference": f"172.30.56.218:5000/{namespace}/{stream}@{image}",
            "dockerImageManifestMediaType": SCHEMA2,
            "dockerImageManifest": json.dumps(manifest, indent=1),
            "dockerImageConfig": config,
        },
        "tag": tag,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _config() -> str:
    environment = {
        "PATH": "/opt/app-root/src/bin:/opt/app-root/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "STI_SCRIPTS_URL": "image:///usr/libexec/s2i",
        "STI_SCRIPTS_PATH": "/usr/libexec/s2i",
        "APP_ROOT": "/opt/app-root",
        "HOME": "/opt/app-root/src",
        "PLATFORM": "el9",
    }
    labels = {
        "io.k8s.display-name": "Web shop 1.42",
        "io.k8s.description": "The shop's pages, built from source on the platform for web applications",
        "io.openshift.expose-services": "8080:http",
        "io.openshift.s2i.scripts-url": "image:///usr/libexec/s2i",
        "io.openshift.tags": "builder,web",
        "version": "1.42",
    }
    steps = [f"RUN /usr/libexec/build/step-{n} --from cache --to /opt/app-root/src" for n in range(LAYERS)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-03-01T12:00:00.123456789Z",
        "config": {
            "User": "1001",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Entrypoint": ["container-entrypoint"],
            "Cmd": ["/usr/libexec/s2i/run"],
            "WorkingDir": "/opt/app-root/src",
            "Labels": labels,
        },
        "history": [{"created": "2024-03-01T12:00:00Z", "created_by": step} for step in steps],
        "rootfs": {"type": "layers", "diff_ids": [digest(f"diff {n}") for n in range(LAYERS)]},
    }
    return json.dumps(config)
