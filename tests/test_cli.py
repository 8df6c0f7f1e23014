"""The command line: what it says of itself, how options and environment become settings, what the tasks print."""

import importlib.metadata
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from eventsourcing.persistence import OperationalError

from imagestream_es import server, verification
from imagestream_es.cli import main
from imagestream_es.persistence.checkpoints import Line
from imagestream_es.persistence.merkle import Checkpoint
from imagestream_es.recovery import replay
from imagestream_es.settings import Address, Duration, Settings, Size, option_name, variable_name


@pytest.fixture
def run():
    def run(*arguments, **env):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)

    return run


@pytest.fixture
def served(monkeypatch):
    """The settings with which `serve` would have started the server."""
    settings = []
    monkeypatch.setattr(server, "serve", lambda given, _: settings.append(given))
    monkeypatch.setitem(sys.modules, "api", SimpleNamespace(create_app=None))
    return settings


def test_help_tells_a_stranger_what_this_is_and_how_to_start_it(run):
    text = run("--help").output
    for words in ("image stream", "OpenShift", "imagestream-es serve", "http://127.0.0.1:8080", "./data"):
        assert words in text
    for command in ("serve", "replay", "verify", "completion"):
        assert f"\n  {command} " in text


@pytest.mark.parametrize("command", ["serve", "replay", "verify", "completion"])
def test_every_command_explains_itself(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {command} [OPTIONS]")
    assert len(result.output.splitlines()[2]) > 20


def test_the_help_of_serve_names_every_option_with_its_variable_and_default(run):
    text = " ".join(run("serve", "--help").output.split())
    for setting in fields(Settings):
        assert option_name(setting.name) in text
        assert f"env var: {variable_name(setting.name)}" in text
        if setting.default not in (None, ()):
            assert f"default: {setting.default}]" in text


def test_replay_and_verify_need_only_to_know_where_the_log_is(run):
    places = ["--data-dir", "--database-url"]
    for command, wanted in (
        ("replay", ["--projection", *places]),
        ("verify", ["--checkpoint", *places, "--checkpoint-file"]),
    ):
        text = run(command, "--help").output
        assert [line.split()[0] for line in text.splitlines() if line.startswith("  --")] == wanted


def test_the_version_is_the_installed_one(run):
    assert importlib.metadata.version("imagestream-es") in run("--version").output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(run, shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_IMAGESTREAM_ES_COMPLETE" in result.output


def test_bash_completes_commands_and_options_with_the_printed_script(require, run, tmp_path):
    script = tmp_path / "completion.sh"
    script.write_text(run("completion", "bash").output)
    complete = (
        f"source {script}; COMP_WORDS=(imagestream-es {{words}}); COMP_CWORD={{at}}; "
        '_imagestream_es_completion imagestream-es; echo "${{COMPREPLY[@]}}"'
    )
    bin_directory = Path(sys.executable).parent

    def completed(words, at):
        return subprocess.run(
            [require("bash"), "-c", complete.format(words=words, at=at)],
            env={"PATH": f"{bin_directory}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    assert completed("ver", 1) == ["verify"]
    assert completed("serve --tls-c", 2) == ["--tls-cert-file"]


def test_without_options_and_variables_the_defaults_hold(run, served):
    assert run("serve").exit_code == 0
    assert served == [Settings()]


def test_every_option_reaches_its_setting(run, served):
    values = {
        "bind": ("[::1]:9090", Address("::1", 9090)),
        "data_dir": ("/srv/log", Path("/srv/log")),
        "database_url": ("postgresql://h/db", "postgresql://h/db"),
        "checkpoint_file": ("/mnt/checkpoints", Path("/mnt/checkpoints")),
        "accept_log": (f"7:{'A' * 64}", f"7:{'a' * 64}"),
        "internal_registry": ("registry:5000", "registry:5000"),
        "external_registry": ("registry.example.com", "registry.example.com"),
        "registry_url": ("https://registry:5000/", "https://registry:5000"),
        "registry_credentials_file": ("config.json", Path("config.json")),
        "registry_ca_file": ("ca.crt", Path("ca.crt")),
        "registry_webhook_secret_file": ("secret", Path("secret")),
        "registry_sweep_interval": ("20s", Duration(20)),
        "registry_sweep_grace": ("90s", Duration(90)),
        "import_allow": ("registry.internal", ("registry.internal",)),
        "pull_secrets": ("/srv/secrets", Path("/srv/secrets")),
        "max_repository_tags": ("-1", -1),
        "import_controller": ("off", "off"),
        "import_interval": ("90s", Duration(90)),
        "tls_cert_file": ("tls.crt", Path("tls.crt")),
        "tls_private_key_file": ("tls.key", Path("tls.key")),
        "client_ca_file": ("ca.crt", Path("ca.crt")),
        "token_auth_file": ("tokens.csv", Path("tokens.csv")),
        "oidc_issuer_url": ("https://issuer.example.com", "https://issuer.example.com"),
        "oidc_client_id": ("streams", "streams"),
        "oidc_username_claim": ("email", "email"),
        "oidc_username_prefix": ("-", "-"),
        "oidc_groups_claim": ("groups", "groups"),
        "oidc_groups_prefix": ("corp:", "corp:"),
        "oidc_ca_file": ("issuer.crt", Path("issuer.crt")),
        "oidc_jwks_file": ("keys.json", Path("keys.json")),
        "anonymous_auth": ("on", "on"),
        "rbac": ("rules", Path("rules")),
        "user_requests_per_second": ("50", 50),
        "user_concurrency": ("7", 7),
        "access_log": ("off", "off"),
        "answer_memory": ("1Gi", Size(1 << 30)),
        "request_threads": ("64", 64),
    }
    assert values.keys() == {setting.name for setting in fields(Settings)}
    expected = Settings(**{name: value for name, (_, value) in values.items()})
    options = [word for name, (text, _) in values.items() for word in (option_name(name), text)]
    variables = {variable_name(name): text for name, (text, _) in values.items()}
    assert run("serve", *options).exit_code == 0
    assert run("serve", **variables).exit_code == 0
    assert served == [expected, expected]


def test_a_repeated_option_is_a_variable_with_spaces_between_its_values(run, served):
    run("serve", "--import-allow", "localhost", "--import-allow", "10.0.0.1")
    run("serve", IMAGESTREAM_IMPORT_ALLOW="localhost 10.0.0.1")
    assert [settings.import_allow for settings in served] == [("localhost", "10.0.0.1")] * 2


def test_a_wrong_value_of_a_repeated_option_is_named(run, served):
    result = run("serve", "--import-allow", "localhost", "--import-allow", "https://registry")
    assert result.exit_code == 2
    assert "'https://registry' is not a host name" in result.output
    assert served == []


def test_the_command_line_wins_over_the_environment(run, served):
    run("serve", "--bind", "127.0.0.1:1", IMAGESTREAM_BIND="127.0.0.1:2", IMAGESTREAM_REQUEST_THREADS="7")
    assert served[0].bind.port == 1
    assert served[0].request_threads == 7


def test_a_wrong_variable_does_not_matter_where_the_command_line_has_a_value(run, served):
    assert run("serve", "--bind", "127.0.0.1:1", IMAGESTREAM_BIND="wrong").exit_code == 0
    assert served[0].bind.port == 1


def test_an_empty_variable_is_as_good_as_none(run, served):
    assert run("serve", IMAGESTREAM_BIND="", IMAGESTREAM_EXTERNAL_REGISTRY="").exit_code == 0
    assert served == [Settings()]


def test_an_unknown_variable_is_no_error(run, served):
    assert run("serve", IMAGESTREAM_OF_ANOTHER_VERSION="value").exit_code == 0
    assert served == [Settings()]


WRONG = [
    ("bind", "8080"),
    ("database_url", "mysql://h/db"),
    ("internal_registry", "https://registry"),
    ("external_registry", "registry/path"),
    ("request_threads", "none"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_with_the_names_of_option_and_variable(run, served, name, value):
    for result in (run("serve", option_name(name), value), run("serve", **{variable_name(name): value})):
        assert result.exit_code == 2
        assert f"'{option_name(name)}' (env var: '{variable_name(name)}')" in result.stderr
    assert served == []


def test_a_certificate_without_its_key_is_refused_with_the_names_of_option_and_variable(run, served):
    result = run("serve", "--tls-cert-file", "tls.crt")
    assert result.exit_code == 1
    assert "--tls-private-key-file (IMAGESTREAM_TLS_PRIVATE_KEY_FILE)" in result.stderr
    assert served == []


# --- replay and verify


def test_replay_tells_how_many_events_it_folded_and_how_far_it_is(run, monkeypatch, tmp_path):
    def refold(settings, names, progress):
        assert settings.data_dir == tmp_path
        for done in range(0, 1001, 25):
            progress(done, 1000)
        return replay.Replayed(1000, 0)

    monkeypatch.setattr(replay, "replay", refold)
    result = run("replay", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stdout == "Rebuilt the views from 1000 events.\n"
    assert result.stderr.splitlines() == [f"replay: {done} of 1000 events" for done in range(100, 1001, 100)]


def test_an_empty_log_is_replayed_without_a_fuss(run, monkeypatch, tmp_path):
    monkeypatch.setattr(replay, "replay", lambda _, __, progress: progress(0, 0) or replay.Replayed(0, 0))
    result = run("replay", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "Rebuilt the views from 0 events.\n")


CHECKPOINT = f"12:{'ab' * 32}"


def test_verify_tells_that_all_is_well_and_what_the_log_is(run, monkeypatch):
    report = verification.Report(12, 3, log=Checkpoint.parse(CHECKPOINT))
    monkeypatch.setattr(verification, "verify", lambda *_: report)
    result = run("verify", IMAGESTREAM_DATABASE_URL="postgresql://h/db")
    assert result.exit_code == 0
    assert result.stdout == (
        "Verified 12 events: the log is sound and all views agree with it.\n"
        f"3 checkpoints of the service agree with it.\nCheckpoint: {CHECKPOINT}\n"
    )


def test_verify_prints_what_differs_and_what_the_log_is_and_fails(run, monkeypatch):
    differences = ["tags: row 7 differs", "more"]
    report = verification.Report(12, 3, log=Checkpoint.parse(CHECKPOINT), differences=differences)
    monkeypatch.setattr(verification, "verify", lambda *_: report)
    result = run("verify")
    assert (result.exit_code, result.stdout) == (1, f"tags: row 7 differs\nmore\nCheckpoint: {CHECKPOINT}\n")


def test_verify_tells_that_a_log_was_accepted(run, monkeypatch):
    line = Line(Checkpoint.parse(CHECKPOINT), "2026-03-01T12:00:00.000Z", True)
    monkeypatch.setattr(verification, "verify", lambda *_: verification.Report(accepted=line))
    assert f"accepted as it was on 2026-03-01T12:00:00.000Z, at {CHECKPOINT}.\n" in run("verify").stdout


def test_verify_is_given_the_checkpoint_that_somebody_kept(run, monkeypatch):
    given = []
    monkeypatch.setattr(verification, "verify", lambda _, __, kept: given.append(kept) or verification.Report())
    assert run("verify", "--checkpoint", CHECKPOINT).exit_code == 0
    assert given == [Checkpoint.parse(CHECKPOINT)]
    wrong = run("verify", "--checkpoint", "12")
    assert wrong.exit_code == 2
    assert "is not SIZE:ROOT" in wrong.stderr


@pytest.mark.parametrize("command", ["replay", "verify"])
def test_a_directory_without_a_log_is_told_in_one_line(run, tmp_path, command):
    result = run(command, "--data-dir", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path / "nowhere") in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()


def test_an_interrupted_command_tells_how_it_goes_on(run, monkeypatch):
    def refold(settings, names, progress):
        progress(1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "replay", refold)
    result = run("replay")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == ("Interrupted. The views are as they were. Run it again.")


def test_a_database_that_does_not_answer_is_told_in_one_line(run, monkeypatch):
    def refold(settings, names, progress):
        raise OperationalError("connection refused\n  is the server running?")

    monkeypatch.setattr(replay, "replay", refold)
    result = run("replay", "--database-url", "postgresql://h/db")
    assert (result.exit_code, result.stderr) == (1, "Error: connection refused is the server running?\n")


def test_a_fault_of_the_program_keeps_its_traceback(run, monkeypatch):
    def refold(settings, names, progress):
        raise KeyError("ours")

    monkeypatch.setattr(replay, "replay", refold)
    assert isinstance(run("replay").exception, KeyError)


def test_on_a_terminal_a_bar_shows_speed_and_time_left(run, monkeypatch):
    def refold(settings, names, progress):
        for done in range(1001):
            progress(done, 1000)
        return replay.Replayed(1000, 0)

    monkeypatch.setattr(replay, "replay", refold)
    result = run("replay", TTY_COMPATIBLE="1", COLUMNS="120", TERM="xterm")
    assert "1000/1000" in result.stderr
    assert "events/s" in result.stderr
    assert result.stdout == "Rebuilt the views from 1000 events.\n"


def test_shell_completion_and_help_do_not_wait_for_the_server_to_load():
    program = "import sys, imagestream_es.cli; print([m for m in ('flask', 'granian', 'rich') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
