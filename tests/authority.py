"""A certificate authority for the tests, made with openssl: it signs what a test wants to show to the service."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIGURATION = """
[ca]
default_ca = all
[all]
database = {directory}/index
new_certs_dir = {directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
preserve = yes
copy_extensions = copy
[any]
commonName = optional
organizationName = optional
"""
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority that keeps its files in a directory of its own."""

    def __init__(self, openssl: str, directory: Path, name: str = "ca") -> None:
        self._openssl, self._directory, self._issued = openssl, directory / name, 0
        self._directory.mkdir()
        self.certificate, self._key = self._directory / "ca.crt", self._directory / "ca.key"
        (self._directory / "index").touch()
        (self._directory / "conf").write_text(CONFIGURATION.format(directory=self._directory))
        usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self._run(
            "req",
            "-x509",
            *KEY,
            "-days",
            "3",
            "-subj",
            f"/CN={name}",
            *usage,
            "-out",
            self.certificate,
            "-keyout",
            self._key,
        )

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)

    def _signer(self) -> list[str | Path]:
        return ["-config", self._directory / "conf", "-cert", self.certificate, "-keyfile", self._key]

    def issue(
        self,
        subject: str,
        usage: str | None = "clientAuth",
        *,
        names: str | None = None,
        expired: bool = False,
        key: Path | None = None,
    ) -> tuple[Path, Path]:
        """A certificate and its key, a new one unless `key` is given; the subject is as `/O=group/CN=name`."""
        self._issued += 1
        certificate = self._directory / f"{self._issued}.crt"
        request = certificate.with_suffix(".csr")
        extensions = ["basicConstraints=critical,CA:FALSE"]
        extensions += [f"extendedKeyUsage={usage}"] if usage else []
        extensions += [f"subjectAltName={names}"] if names else []
        wanted = [word for extension in extensions for word in ("-addext", extension)]
        of = ["-key", key] if key else [*KEY, "-keyout", certificate.with_suffix(".key")]
        self._run("req", "-new", *of, "-utf8", "-subj", subject, *wanted, "-out", request)
        period = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] if expired else ["-days", "3"]
        self._run("ca", "-batch", "-notext", *self._signer(), *period, "-in", request, "-out", certificate)
        return certificate, key or certificate.with_suffix(".key")

    def revoke(self, certificate: Path) -> None:
        """Revoke a certificate and append the list of the revoked to the authority's own certificate."""
        self._run("ca", *self._signer(), "-revoke", certificate)
        self._run("ca", *self._signer(), "-gencrl", "-crldays", "3", "-out", self._directory / "crl")
        with self.certificate.open("ab") as file:
            file.write((self._directory / "crl").read_bytes())
