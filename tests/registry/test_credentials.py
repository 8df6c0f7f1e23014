"""Pull secrets: which credentials go to which registry, and which never do."""

import base64
import json
import logging

import pytest

from imagestream_es.domain.references import DockerImageReference
from imagestream_es.registry.credentials import Credentials, Keyring, PullSecrets


def auth(user, password="hunter2"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(**auths):
    return json.dumps({"auths": auths}).encode()


def user(keyring, pull_spec):
    found = keyring.find(DockerImageReference.parse(pull_spec))
    return None if found is None else found.user


def test_credentials_are_for_their_host_only():
    keyring = Keyring([config(**{"registry.example.com": auth("dev")})])
    assert user(keyring, "registry.example.com/team/app") == "dev"
    for other in ("registry.example.com:5000/team/app", "example.com/team/app", "a.registry.example.com/x", "team/app"):
        assert user(keyring, other) is None


@pytest.mark.parametrize(
    "key", ["reg.example.com", "https://reg.example.com", "http://reg.example.com/", "https://REG.example.com/v1/"]
)
def test_a_host_may_be_written_as_a_url(key):
    assert user(Keyring([config(**{key: auth("dev")})]), "reg.example.com/team/app") == "dev"


@pytest.mark.parametrize(
    "key",
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io", "https://docker.io/v2/"],
)
@pytest.mark.parametrize("pull_spec", ["app", "team/app", "docker.io/app", "index.docker.io/team/app"])
def test_the_hub_has_many_names(key, pull_spec):
    assert user(Keyring([config(**{key: auth("dev")})]), pull_spec) == "dev"


def test_the_longest_path_wins():
    keyring = Keyring(
        [
            config(**{"r.test": auth("host"), "r.test/team": auth("team")}),
            config(**{"r.test/team/app": auth("app"), "r.test/team": auth("second")}),
        ]
    )
    assert user(keyring, "r.test/team/app:1") == "app"
    assert user(keyring, "r.test/team/other") == "team"
    assert user(keyring, "r.test/teamwork/app") == "host"
    assert user(keyring, "r.test/other") == "host"


def test_a_path_matches_whole_components():
    keyring = Keyring([config(**{"r.test/team": auth("team")})])
    assert user(keyring, "r.test/team/app") == "team"
    assert user(keyring, "r.test/team-two/app") is None


def test_a_password_may_hold_colons_and_stand_in_the_clear():
    first = Keyring([config(**{"r.test": auth("dev", "a:b:c")})])
    second = Keyring([config(**{"r.test": {"username": "dev", "password": "a:b:c"}})])
    reference = DockerImageReference.parse("r.test/app")
    assert first.find(reference) == second.find(reference) == Credentials("dev", "a:b:c")


@pytest.mark.parametrize(
    "entry", [{}, None, "text", {"auth": "%%%"}, {"auth": "/w=="}, {"auth": 7}, {"username": "dev"}, auth("")]
)
def test_an_entry_without_credentials_is_passed_over(entry):
    keyring = Keyring([config(**{"r.test/team": entry, "r.test": auth("dev")})])
    assert user(keyring, "r.test/team/app") == "dev"


def test_the_secrets_of_a_namespace_are_its_files(tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "team" / "b.json").write_bytes(config(**{"r.test": auth("b")}))
    (tmp_path / "team" / "a.json").write_bytes(config(**{"r.test": auth("a")}))
    (tmp_path / "team" / "notes.txt").write_text("nothing")
    (tmp_path / "other" / "c.json").write_bytes(config(**{"r.test": auth("c")}))
    secrets = PullSecrets(tmp_path)
    assert [secret.name for secret in secrets.of("team")] == ["a", "b"]
    assert secrets.of("nobody") == []
    assert user(secrets.keyring("team"), "r.test/app") == "a"
    assert user(secrets.keyring("nobody"), "r.test/app") is None


def test_a_new_file_counts_at_once(tmp_path):
    secrets = PullSecrets(tmp_path)
    assert secrets.of("team") == []
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "a.json").write_bytes(config(**{"r.test": auth("a")}))
    assert [secret.name for secret in secrets.of("team")] == ["a"]


def test_without_a_directory_there_are_no_secrets():
    assert PullSecrets(None).of("team") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"hunter2", b"[]", b'{"auths":7}', b'{"auths":{}}', b"{" * 5000, config(r=auth("x")) + b" " * 2**20],
)
def test_a_file_that_is_no_secret_is_named_in_the_log_and_not_repeated(tmp_path, caplog, content):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "broken.json").write_bytes(content)
    assert PullSecrets(tmp_path).of("team") == []
    assert "broken.json" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_file_that_cannot_be_read_is_named_in_the_log(tmp_path, caplog):
    (tmp_path / "team" / "odd.json").mkdir(parents=True)
    assert PullSecrets(tmp_path).of("team") == []
    assert "odd.json cannot be read" in caplog.text


def test_nothing_that_holds_a_password_prints_it(tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "a.json").write_bytes(config(**{"r.test": {"username": "dev", "password": "hunter2"}}))
    secrets = PullSecrets(tmp_path)
    assert "hunter2" not in repr(secrets.of("team")) + repr(secrets.keyring("team"))
