"""Every setting of the service, each declared once: name, type, default, check and help.

The command line and the environment follow from the fields of `Settings` (`imagestream_es.cli` derives both),
so a new setting is one new field here. Nothing in this file reads the environment or the disk.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit


def option_name(name: str) -> str:
    """The command line option of the setting `name`: `data_dir` is `--data-dir`."""
    return "--" + name.replace("_", "-")


def variable_name(name: str) -> str:
    """The environment variable of the setting `name`: `data_dir` is `IMAGESTREAM_DATA_DIR`."""
    return "IMAGESTREAM_" + name.upper()


class SettingsError(Exception):
    """The service cannot start with one setting as it is; the message names its option and its variable."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{option_name(name)} ({variable_name(name)}): {problem}")


@dataclass(frozen=True)
class Address:
    """Where to listen: a host name or an IP address (IPv6 without brackets), and a port (0: any free one)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError."""
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})", text)
        if match is None or int(match[3]) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT or [IPV6]:PORT.")
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_registry(text: str) -> str:
    """A registry as it stands in an image reference: `HOST` or `HOST:PORT`. Raises ValueError."""
    host = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]"
    if re.fullmatch(rf"(?:{host})(?::[0-9]{{1,5}})?", text) is None:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT.")
    return text


def parse_database_url(text: str) -> str:
    """A PostgreSQL URL, unchanged. Raises ValueError, without the text: it may hold a password."""
    form = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(text)
        whole = parts.scheme in {"postgresql", "postgres"} and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError(f"not a PostgreSQL URL ({form}).") from None
    if not whole or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"not a PostgreSQL URL ({form}, with %2F for a / in the password).")
    return text


def parse_checkpoint(text: str) -> str:
    """`SIZE:ROOT` as `verify` prints it, in lower case. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,18}:[0-9a-fA-F]{64}", text) is None:
        raise ValueError(f"{text!r} is not SIZE:ROOT, a number and 64 hexadecimal digits.")
    return text.lower()


def parse_threads(text: str) -> int:
    """A number of threads from 1 to 10000. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 10_000:
        raise ValueError(f"{text!r} is not a number from 1 to 10000.")
    return int(text)


def parse_count(text: str) -> int:
    """A number from 1 to 100000. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,6}", text) is None or not 1 <= int(text) <= 100_000:
        raise ValueError(f"{text!r} is not a number from 1 to 100000.")
    return int(text)


def parse_host(text: str) -> str:
    """A host: a name or an IP address, no port. Raises ValueError."""
    if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?", text) is None:
        raise ValueError(f"{text!r} is not a host name or an IP address.")
    return text


def parse_tag_limit(text: str) -> int:
    """A number from 0 to 100000, or -1 for no limit. Raises ValueError."""
    if re.fullmatch(r"-1|[0-9]{1,6}", text) is None or int(text) > 100_000:
        raise ValueError(f"{text!r} is not a number from 0 to 100000, or -1.")
    return int(text)


@dataclass(frozen=True)
class Duration:
    """A time span of whole seconds, written with a unit."""

    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `20s`, `5m` or `1h`: more than nothing, and less than a year. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,8})([smh])", text)
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
        if not 0 < seconds <= 365 * 86400:
            raise ValueError(f"{text!r} is not a duration as 20s, 5m or 1h.")
        return cls(seconds)

    def __str__(self) -> str:
        for unit, size in (("h", 3600), ("m", 60)):
            if self.seconds % size == 0:
                return f"{self.seconds // size}{unit}"
        return f"{self.seconds}s"


@dataclass(frozen=True)
class Size:
    """A number of bytes, written with a unit."""

    bytes: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `0`, `64Mi` or `1Gi`: up to 1024Gi. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,7})(Ki|Mi|Gi)|0", text)
        size = int(match[1]) << {"Ki": 10, "Mi": 20, "Gi": 30}[match[2]] if match and match[2] else 0
        if match is None or size > 1 << 40:
            raise ValueError(f"{text!r} is not a size as 0, 64Mi or 1Gi.")
        return cls(size)

    def __str__(self) -> str:
        for unit, bits in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
            if self.bytes and self.bytes % (1 << bits) == 0:
                return f"{self.bytes >> bits}{unit}"
        return str(self.bytes)


def parse_switch(text: str) -> str:
    """`on` or `off`, unchanged. Raises ValueError."""
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is neither on nor off.")
    return text


def parse_issuer(text: str) -> str:
    """The URL of an OpenID Connect provider, unchanged. Raises ValueError, without the text."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("not a URL of the form https://HOST/PATH, without user, query and fragment.")
    return text


def parse_registry_url(text: str) -> str:
    """The URL of a registry, `http://HOST:PORT` or with https, without a final slash. Raises ValueError."""
    match = re.fullmatch(r"(https?)://([^/?#@]+)/?", text)
    if match is None:
        raise ValueError("not a URL of the form http://HOST:PORT or https://HOST:PORT, without user and password.")
    return f"{match[1]}://{parse_registry(match[2])}"


@dataclass(frozen=True)
class Declared:
    """What a setting is to its user: its kind of value, how text becomes one (or a ValueError), what for.

    One that may be `repeated` is a tuple of such values; its variable holds them with spaces between.
    """

    metavar: str
    parse: Callable[[str], object]
    help: str
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one service. Raises SettingsError when two of them do not go together."""

    bind: Annotated[
        Address,
        Declared("HOST:PORT", Address.parse, "Where to listen; port 0 takes any free port."),
    ] = Address("127.0.0.1", 8080)

    data_dir: Annotated[
        Path,
        Declared("DIR", Path, "Directory of the event log and of all that is kept beside it."),
    ] = Path("data")

    database_url: Annotated[
        str | None,
        Declared(
            "URL",
            parse_database_url,
            "Keep the event log in this PostgreSQL database instead of a file in the data directory. Other "
            "users of the machine can read a password on the command line: prefer the variable.",
        ),
    ] = field(default=None, repr=False)

    checkpoint_file: Annotated[
        Path | None,
        Declared(
            "FILE",
            Path,
            "Remember there, outside the database, what the log was, to notice loss and tampering: `checkpoints` in "
            "the data directory if not given; with a PostgreSQL database only if given. Best on another disk.",
        ),
    ] = None

    accept_log: Annotated[
        str | None,
        Declared(
            "SIZE:ROOT",
            parse_checkpoint,
            "Go on with a log that is not the one that was remembered, if `verify` ends with these words. Without "
            "effect on any other log.",
        ),
    ] = None

    internal_registry: Annotated[
        str,
        Declared("HOST", parse_registry, "Registry of the image streams, as seen from inside the cluster."),
    ] = "172.30.56.218:5000"

    external_registry: Annotated[
        str | None,
        Declared("HOST", parse_registry, "The same registry, as seen from outside the cluster."),
    ] = None

    registry_url: Annotated[
        str | None,
        Declared(
            "URL",
            parse_registry_url,
            "Where this service reads the internal registry, whose pushes it takes in; the host may have any address.",
        ),
    ] = None

    registry_credentials_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Credentials for that, in the format of docker's config.json."),
    ] = None

    registry_ca_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Certificate authorities (PEM) to trust there, beside those of the system."),
    ] = None

    registry_webhook_secret_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Secret that comes with the registry's notifications; a final newline does not count."),
    ] = None

    registry_sweep_interval: Annotated[
        Duration,
        Declared("TIME", Duration.parse, "How often to look in the registry for pushes that were not told."),
    ] = Duration(5 * 60)

    registry_sweep_grace: Annotated[
        Duration,
        Declared("TIME", Duration.parse, "How long notifications may be under way before a push counts as not told."),
    ] = Duration(30)

    import_allow: Annotated[
        tuple[str, ...],
        Declared(
            "HOST",
            parse_host,
            "Import images from this host even if its address is not a public one, as those of private networks. "
            "May be repeated.",
            repeated=True,
        ),
    ] = ()

    pull_secrets: Annotated[
        Path | None,
        Declared(
            "DIR",
            Path,
            "Credentials for registries: DIR/NAMESPACE/NAME.json, each in the format of docker's config.json.",
        ),
    ] = None

    max_repository_tags: Annotated[
        int,
        Declared("N", parse_tag_limit, "Tags that an import of a whole repository takes; -1 takes all."),
    ] = 50

    import_controller: Annotated[
        str,
        Declared(
            "on|off",
            parse_switch,
            "Import images of tags that ask for them, and those of scheduled tags again and again; off: only "
            "when a client says so.",
        ),
    ] = "on"

    import_interval: Annotated[
        Duration,
        Declared("TIME", Duration.parse, "How long after its last import a scheduled tag is imported again."),
    ] = Duration(15 * 60)

    tls_cert_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Serve HTTPS with this certificate (PEM, its chain after it)."),
    ] = None

    tls_private_key_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Private key of the certificate (PEM, not encrypted)."),
    ] = None

    client_ca_file: Annotated[
        Path | None,
        Declared(
            "FILE",
            Path,
            "Accept client certificates that these authorities (PEM) have signed; revocation lists in the file count.",
        ),
    ] = None

    token_auth_file: Annotated[
        Path | None,
        Declared(
            "FILE", Path, 'Bearer tokens, on each line token,user,uid,"group1,group2"; read again when it changes.'
        ),
    ] = None

    oidc_issuer_url: Annotated[
        str | None,
        Declared("URL", parse_issuer, "Accept the tokens that this OpenID Connect provider has signed."),
    ] = None

    oidc_client_id: Annotated[
        str | None,
        Declared("ID", str, "For whom those tokens must be made out."),
    ] = None

    oidc_username_claim: Annotated[
        str,
        Declared("CLAIM", str, "What in such a token is the name of the user."),
    ] = "sub"

    oidc_username_prefix: Annotated[
        str | None,
        Declared(
            "TEXT",
            str,
            "What is put before that name: the URL and # if not given, unless the claim is email; - for none.",
        ),
    ] = None

    oidc_groups_claim: Annotated[
        str | None,
        Declared("CLAIM", str, "What in such a token is the name, or the names, of the user's groups."),
    ] = None

    oidc_groups_prefix: Annotated[
        str | None,
        Declared("TEXT", str, "What is put before the names of groups."),
    ] = None

    oidc_ca_file: Annotated[
        Path | None,
        Declared("FILE", Path, "Certificate authorities (PEM) of the provider; those of the system if not given."),
    ] = None

    oidc_jwks_file: Annotated[
        Path | None,
        Declared("FILE", Path, "The provider's keys (a JSON web key set), where the provider can't be reached."),
    ] = None

    anonymous_auth: Annotated[
        str,
        Declared("on|off", parse_switch, "Let in who shows no credentials as system:anonymous, where some are needed."),
    ] = "off"

    rbac: Annotated[
        Path | None,
        Declared(
            "DIR",
            Path,
            "Who may do what: manifests of Role, ClusterRole, RoleBinding and ClusterRoleBinding; read again when they "
            "change.",
        ),
    ] = None

    user_requests_per_second: Annotated[
        int | None,
        Declared("N", parse_count, "Requests that one user may send a second; without it, as many as they like."),
    ] = None

    user_concurrency: Annotated[
        int | None,
        Declared("N", parse_count, "Requests that one user may have under way; watches do not count."),
    ] = None

    access_log: Annotated[
        str,
        Declared("on|off", parse_switch, "Write one line to stderr for each request, but those that ask for health."),
    ] = "on"

    answer_memory: Annotated[
        Size,
        Declared("SIZE", Size.parse, "Memory for answers that are kept to be given again, as 64Mi; 0 keeps none."),
    ] = Size(64 << 20)

    request_threads: Annotated[
        int,
        Declared("N", parse_threads, "Requests served at the same time; every open watch is one of them."),
    ] = 1100

    def __post_init__(self) -> None:
        if self.tls_cert_file is None and self.tls_private_key_file is not None:
            raise SettingsError("tls_cert_file", "needed beside --tls-private-key-file.")
        if self.tls_private_key_file is None and self.tls_cert_file is not None:
            raise SettingsError("tls_private_key_file", "needed beside --tls-cert-file.")
        if self.client_ca_file is not None and self.tls_cert_file is None:
            raise SettingsError("client_ca_file", "needs TLS: --tls-cert-file and --tls-private-key-file.")
        if self.oidc_issuer_url is not None and not self.oidc_client_id:
            raise SettingsError("oidc_client_id", "needed beside --oidc-issuer-url.")
        for name in ("oidc_client_id", "oidc_groups_claim", "oidc_ca_file", "oidc_jwks_file"):
            if getattr(self, name) is not None and self.oidc_issuer_url is None:
                raise SettingsError("oidc_issuer_url", f"needed beside {option_name(name)}.")
        for name in ("anonymous_auth", "rbac"):
            if getattr(self, name) not in (None, "off") and not self.authenticates_callers:
                problem = "of no use without credentials: --token-auth-file, --oidc-issuer-url or --client-ca-file."
                raise SettingsError(name, problem)

    @property
    def watches(self) -> int:
        """How many watches may be open: each holds a thread, and some must be left for other requests."""
        return max(self.request_threads - 64, 1)

    @property
    def registries(self) -> tuple[str, ...]:
        """All hosts under which the internal registry is known, beginning with the one that pull specs name."""
        seen_from_here = self.registry_url.partition("://")[2] if self.registry_url else None
        return self.internal_registry, *filter(None, (self.external_registry, seen_from_here))

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers can prove who they are; if not, whoever reaches the port may do everything."""
        return any(file is not None for file in (self.token_auth_file, self.oidc_issuer_url, self.client_ca_file))
