"""Settings: what counts as a value, and what is said of one that does not."""

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.settings import (
    Address,
    Duration,
    Settings,
    SettingsError,
    Size,
    option_name,
    parse_database_url,
    parse_host,
    parse_registry,
    parse_registry_url,
    parse_switch,
    parse_tag_limit,
    parse_threads,
    variable_name,
)


def test_without_arguments_the_service_listens_on_the_loopback_and_keeps_its_log_in_data():
    settings = Settings()
    assert str(settings.bind) == "127.0.0.1:8080"
    assert settings.data_dir == Path("data")
    assert settings.database_url is None
    assert settings.internal_registry == "172.30.56.218:5000"
    assert settings.external_registry is None


def test_open_watches_leave_threads_for_other_requests():
    assert 0 < Settings().watches < Settings().request_threads


def test_option_and_variable_of_a_setting_have_the_same_words():
    assert option_name("tls_cert_file") == "--tls-cert-file"
    assert variable_name("tls_cert_file") == "IMAGESTREAM_TLS_CERT_FILE"


def test_the_text_of_every_default_is_read_back_as_that_default():
    hints = get_type_hints(Settings, include_extras=True)
    with_default = [setting for setting in fields(Settings) if setting.default not in (None, ())]
    assert len(with_default) >= 4
    for setting in with_default:
        assert hints[setting.name].__metadata__[0].parse(str(setting.default)) == setting.default


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("registry.example.com:65535", Address("registry.example.com", 65535)),
    ],
)
def test_an_address_is_read_and_written_alike(text, address):
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "::1:8080", "[::1]", "host:", "host:65536", "host:-1", "a b:1", "host:1\n", "h:\u0661"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_and_port_survives_a_round_trip(ip, port):
    address = Address(str(ip), port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["172.30.56.218:5000", "registry.example.com", "localhost:5000", "[fd00::1]:5000"])
def test_a_registry_host_is_kept_as_it_is(text):
    assert parse_registry(text) == text


@pytest.mark.parametrize("text", ["", "https://registry", "registry/path", "registry:", "a b", "-registry", "r\n"])
def test_what_is_no_registry_host_is_refused(text):
    with pytest.raises(ValueError, match="HOST"):
        parse_registry(text)


@pytest.mark.parametrize("text", ["postgresql://u:p@h:5432/db", "postgres:///db"])
def test_a_database_url_is_kept_as_it_is(text):
    assert parse_database_url(text) == text


@pytest.mark.parametrize("text", ["sqlite:///secret", "secret", "mysql://u:secret@h/db"])
def test_a_wrong_database_url_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="PostgreSQL URL") as refusal:
        parse_database_url(text)
    assert "secret" not in str(refusal.value)


def test_settings_printed_by_accident_do_not_tell_the_database_password():
    assert "hunter2" not in repr(Settings(database_url="postgresql://u:hunter2@h/db"))


@pytest.mark.parametrize("text", ["0", "-1", "10001", "many", "", "1.5", " 1"])
def test_what_is_no_number_of_threads_is_refused(text):
    with pytest.raises(ValueError, match="from 1 to 10000"):
        parse_threads(text)


@pytest.mark.parametrize("text", ["1", "600", "10000"])
def test_a_number_of_threads_is_read(text):
    assert parse_threads(text) == int(text)


@pytest.mark.parametrize("text", ["registry", "registry.example.com", "10.0.0.1", "[fd00::1]", "::1"])
def test_a_host_is_kept_as_it_is(text):
    assert parse_host(text) == text


@pytest.mark.parametrize("text", ["", "registry:5000", "https://registry", "registry/path", "a b", "*", "r\n"])
def test_what_is_no_host_is_refused(text):
    with pytest.raises(ValueError, match="host name"):
        parse_host(text)


@pytest.mark.parametrize(("text", "limit"), [("-1", -1), ("0", 0), ("50", 50), ("100000", 100_000)])
def test_a_limit_of_tags_is_read(text, limit):
    assert parse_tag_limit(text) == limit


@pytest.mark.parametrize("text", ["", "-2", "100001", "1.5", "all", " 1"])
def test_what_is_no_limit_of_tags_is_refused(text):
    with pytest.raises(ValueError, match="-1"):
        parse_tag_limit(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("90s", 90), ("5m", 300), ("15m", 900), ("1h", 3600), ("8760h", 31_536_000)]
)
def test_a_duration_is_read_and_written_alike(text, seconds):
    assert Duration.parse(text) == Duration(seconds)
    assert str(Duration(seconds)) == text


@pytest.mark.parametrize("text", ["", "20", "0s", "-5m", "1.5h", "1d", "8761h", "5 m", "5m\n", "\u0665m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="20s, 5m or 1h"):
        Duration.parse(text)


@given(st.integers(1, 31_536_000))
def test_every_duration_survives_a_round_trip(seconds):
    assert Duration.parse(str(Duration(seconds))) == Duration(seconds)


def test_a_switch_is_on_or_off():
    assert [parse_switch(text) for text in ("on", "off")] == ["on", "off"]
    for text in ("", "yes", "ON", "off\n"):
        with pytest.raises(ValueError, match="on nor off"):
            parse_switch(text)


@pytest.mark.parametrize(
    ("given", "missing"), [("tls_cert_file", "tls_private_key_file"), ("tls_private_key_file", "tls_cert_file")]
)
def test_a_certificate_and_its_key_come_together(given, missing):
    with pytest.raises(SettingsError) as refusal:
        Settings(**{given: Path("file.pem")})
    assert str(refusal.value).startswith(f"{option_name(missing)} ({variable_name(missing)}): ")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://registry.example.com/", "https://registry.example.com"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_the_url_of_a_registry_is_read(text, url):
    assert parse_registry_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["registry:5000", "ftp://registry", "http://", "http://dev:hunter2@registry", "http://registry/v2/", "http://a b"],
)
def test_what_is_no_url_of_a_registry_is_refused_without_a_password(text):
    with pytest.raises(ValueError, match="not ") as refusal:
        parse_registry_url(text)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("64Mi", 64 << 20), ("1Ki", 1024), ("1024Gi", 1 << 40)])
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert Size.parse(text) == Size(size)
    assert Size.parse(str(Size(size))) == Size(size)


@pytest.mark.parametrize("text", ["", "1", "64M", "-1Mi", "1025Gi", "1.5Gi", "00", "1 Mi"])
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size as 0, 64Mi or 1Gi"):
        Size.parse(text)
