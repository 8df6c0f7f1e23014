"""Token files, certificates, and the gate that takes both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagestream_es.access.certificates import user_of
from imagestream_es.access.files import Reread, WrongFile
from imagestream_es.access.gate import Gate, Unauthenticated
from imagestream_es.access.identity import ANONYMOUS, AUTHENTICATED, UNSECURED, User
from imagestream_es.access.policy import policy_of
from imagestream_es.access.tokens import TokenFile

CERTIFICATE = {
    "subject": (
        (("organizationName", "devs"),),
        (("organizationName", "ops"), ("commonName", "jane")),
    )
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.csv"


def gate(file: Path, *, anonymous: bool = False) -> Gate:
    return Gate(Reread(list, policy_of), [TokenFile(file)], secured=True, anonymous=anonymous)


def test_each_line_is_a_user(file: Path) -> None:
    file.write_text('one,jane,7,"devs,ops"\ntwo,joe,8\nthree,ann,9,devs,ignored\n')
    tokens = TokenFile(file)
    assert tokens.user("one") == User("jane", "7", ("devs", "ops", AUTHENTICATED), issuer="token-file")
    assert tokens.user("two") == User("joe", "8", (AUTHENTICATED,), issuer="token-file")
    assert tokens.user("three") == User("ann", "9", ("devs", AUTHENTICATED), issuer="token-file")
    assert tokens.user("four") is None


def test_an_empty_token_is_nobodys_and_of_two_lines_the_later_counts(file: Path) -> None:
    file.write_text(",jane,7\none,joe,8\none,ann,9\n")
    tokens = TokenFile(file)
    assert tokens.user("") is None
    assert tokens.user("one") == User("ann", "9", (AUTHENTICATED,), issuer="token-file")


@pytest.mark.parametrize(
    "text",
    [
        "one,joe\n",
        "one,,1\n",
        'one,joe,"1\n',
        "one,j\0e,1\n",
        "one,j\x1be,1\n",
        f"one,{'j' * 257},1\n",
        f"one,joe,1,{'g' * 257}\n",
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_without_its_tokens(file: Path, text: str) -> None:
    file.write_text("secret,jane,7\n" + text)
    with pytest.raises(WrongFile) as refusal:
        TokenFile(file)
    assert f"{file}, line 2" in str(refusal.value)
    assert "one" not in str(refusal.value).replace(str(file), "")


def test_a_changed_file_counts_and_a_wrong_one_leaves_the_old_tokens(file: Path) -> None:
    file.write_text("one,joe,8\n")
    tokens = TokenFile(file)
    file.write_text("two\n")
    tokens.refresh()
    assert tokens.user("one") is not None
    file.unlink()
    tokens.refresh()
    assert tokens.user("one") is not None
    new = file.with_suffix(".new")
    new.write_text("two,joe,8\n")
    os.replace(new, file)
    tokens.refresh()
    assert tokens.user("one") is None
    assert tokens.user("two") is not None


def test_a_certificate_names_a_user_and_groups() -> None:
    assert user_of(CERTIFICATE) == User("jane", "", ("devs", "ops", AUTHENTICATED), issuer="certificate")
    assert user_of({"subject": ((("organizationName", "devs"),),)}) is None


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 257, "\u202egnp"])
def test_a_certificate_with_a_name_that_nobody_can_have_names_nobody(name: str) -> None:
    assert user_of({"subject": ((("commonName", name),),)}) is None
    if name:
        assert user_of({"subject": ((("commonName", "jane"),), (("organizationName", name),))}) is None


def test_a_certificate_comes_before_a_token(file: Path) -> None:
    file.write_text("one,joe,8\n")
    assert gate(file).authenticate("Bearer one", CERTIFICATE).name == "jane"
    with pytest.raises(Unauthenticated):
        gate(file).authenticate("Bearer one", {"subject": ()})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  one",
        "Bearer two",
        "Bearer ONE",
        "Bearer one one",
        "Bearer one,Bearer one",
        "Bearer one\u00e9",
        "Basic one",
        "one",
    ],
)
def test_a_wrong_credential_is_never_anonymous(file: Path, header: str) -> None:
    file.write_text("one,joe,8\n")
    with pytest.raises(Unauthenticated):
        gate(file, anonymous=True).authenticate(header, None)


def test_no_credential_is_anonymous_only_where_that_is_allowed(file: Path) -> None:
    file.write_text("one,joe,8\n")
    assert gate(file, anonymous=True).authenticate(None, None) is ANONYMOUS
    with pytest.raises(Unauthenticated):
        gate(file).authenticate(None, None)
    assert gate(file).authenticate("bearer one", None).name == "joe"


def test_without_credentials_configured_everybody_is_one_user() -> None:
    assert Gate(Reread(list, policy_of)).authenticate("Bearer anything", None) is UNSECURED
