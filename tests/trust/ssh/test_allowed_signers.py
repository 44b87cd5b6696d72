"""allowed_signers: who is accepted is accepted by ssh-keygen too, and who is not, is by neither."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bundler.trust.ssh.allowed_signers import NotAListOfSignersError, find_signer, match_list, read_allowed_signers
from bundler.trust.ssh.sshsig import SshSignature
from tests.support.keys import certify, keygen_sign, keygen_verifies, make_key

NAMESPACE = "bundle@example.org"
MESSAGE = b"message"
ALICE = "alice@example.org"


def both(folder: Path, line: str, signature: bytes) -> tuple[str | None, list[str]]:
    """Ask ours and ssh-keygen, which must agree."""
    (folder / "signers").write_text(f"# a comment\n\n{line}")
    (folder / "sig").write_bytes(signature)
    parsed = SshSignature.parse(signature)
    parsed.verify(MESSAGE, NAMESPACE)
    signers = read_allowed_signers((folder / "signers").read_text())
    found = find_signer(signers, parsed.key, parsed.certificate, NAMESPACE, time.time(), [ALICE])
    theirs = keygen_verifies(folder / "signers", folder / "sig", MESSAGE, NAMESPACE, ALICE)
    assert (found[0] is not None) == theirs
    return found


@pytest.mark.parametrize(
    ("principals", "options", "problem"),
    [
        (ALICE, "", None),
        ("bob@example.org,*@example.org", "", None),
        ("*@example.org", 'namespaces="git,bundle@*"', None),
        (ALICE, 'valid-after="20200101Z",valid-before="20990101"', None),
        (ALICE, 'NAMESPACES="bundle@example.org"', None),
        (ALICE, 'namespaces="git"', "line 3: its key is not accepted for namespace bundle@example.org"),
        (ALICE, 'valid-before="20200101"', "line 3: its key is no longer valid"),
        (ALICE, 'valid-after="209901010000"', "line 3: its key is not valid yet"),
        ("!alice@*,*@example.org", "", f"line 3: its key stands for !alice@*,*@example.org, not for {ALICE}"),
        ("bob@example.org", "", f"line 3: its key stands for bob@example.org, not for {ALICE}"),
    ],
)
def test_a_line_accepts_what_it_says(tmp_path: Path, principals: str, options: str, problem: str | None) -> None:
    key = make_key(tmp_path)
    found, reasons = both(tmp_path, key.line(principals, options), keygen_sign(key.path, MESSAGE, NAMESPACE))
    assert (found, reasons) == ((ALICE, []) if problem is None else (None, [problem]))


def test_a_key_in_no_line_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    key, other = make_key(tmp_path), make_key(tmp_path, "other")
    found, reasons = both(tmp_path, other.line(ALICE), keygen_sign(key.path, MESSAGE, NAMESPACE))
    assert found is None
    assert reasons == [f"key {SshSignature.parse(keygen_sign(key.path, b'', 'x')).key.fingerprint} is in no line"]


@pytest.mark.parametrize(
    ("options", "principals", "problem"),
    [
        ([], "*@example.org", None),
        ([], "bob@example.org", f"line 3: its key stands for bob@example.org, not for {ALICE}"),
        (["-V", "20200101:20200201"], "*", "line 3: it was valid until 2020-02-01T"),
        (["-V", "20980101:20990101"], "*", "line 3: it is valid only from 2098-01-01T"),
        (["-h"], "*", "line 3: it is a certificate for a host"),
    ],
)
def test_a_certificate_is_accepted_by_its_authority(
    tmp_path: Path, options: list[str], principals: str, problem: str | None
) -> None:
    authority, key = make_key(tmp_path, "authority"), make_key(tmp_path)
    signature = keygen_sign(certify(authority, key, *options), MESSAGE, NAMESPACE)
    found, reasons = both(tmp_path, authority.line(principals, "cert-authority"), signature)
    assert found == (ALICE if problem is None else None)
    assert [reason.startswith(problem or "") for reason in reasons] == [True] * (problem is not None)


def test_a_certificate_is_not_accepted_by_lines_without_cert_authority(tmp_path: Path) -> None:
    authority, key = make_key(tmp_path, "authority"), make_key(tmp_path)
    signature = keygen_sign(certify(authority, key), MESSAGE, NAMESPACE)
    found, reasons = both(tmp_path, authority.line(ALICE) + key.line(ALICE), signature)
    assert (found, reasons) == (None, ['certificate "alice\'s" is in no line'])


def test_a_certificate_with_conditions_is_refused(tmp_path: Path) -> None:
    authority, key = make_key(tmp_path, "authority"), make_key(tmp_path)
    certificate = certify(authority, key, "-O", "source-address=10.0.0.0/8")
    parsed = SshSignature.parse(keygen_sign(certificate, MESSAGE, NAMESPACE))
    signers = read_allowed_signers(authority.line("*", "cert-authority"))
    found, reasons = find_signer(signers, parsed.key, parsed.certificate, NAMESPACE, time.time())
    assert (found, reasons) == (None, ["line 1: it has conditions that are not known here: source-address"])


def test_every_malformed_line_is_named(tmp_path: Path) -> None:
    key = make_key(tmp_path).public
    lines = [
        f"a {key}",
        "a",
        "a ssh-ed25519 ???",
        f"a bogus {key}",
        f"a namespaces=git {key}",
        f"a cert-authority,cert-authority {key}",
        f'a valid-before="tomorrow" {key}',
        f"a {key.replace('ssh-ed25519', 'ssh-rsa')}",
        "a ssh-dss AAAAB3NzaC1kc3M=",
    ]
    with pytest.raises(NotAListOfSignersError) as caught:
        read_allowed_signers("\n".join(lines))
    assert [line for line, _ in caught.value.faults] == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("text", "patterns", "matches"),
    [
        ("ab", "a?", True),
        ("ab", "a", False),
        ("a[b]", "a[b]", True),
        ("ab", "a[b]", False),
        ("ab", "!ab,*", False),
    ],
)
def test_patterns_are_those_of_openssh(text: str, patterns: str, matches: bool) -> None:
    assert match_list(text, patterns) is matches


@pytest.mark.parametrize(
    "line",
    ['"', '"a ssh-ed25519 KEY', 'a "ssh-ed25519 KEY', 'a namespaces="x ssh-ed25519 KEY', 'a" ssh-ed25519 KEY'],
)
def test_a_quote_that_does_not_end_is_named(tmp_path: Path, line: str) -> None:
    key = make_key(tmp_path).public.split()[1]
    with pytest.raises(NotAListOfSignersError) as caught:
        read_allowed_signers(line.replace("KEY", key))
    [(number, said)] = caught.value.faults
    assert number == 1 and "a quote begins and does not end" in said


def test_a_comment_may_hold_a_quote(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    line = key.line(ALICE).rstrip() + " Alice's \"old\n"
    assert both(tmp_path, line, keygen_sign(key.path, MESSAGE, NAMESPACE)) == (ALICE, [])
