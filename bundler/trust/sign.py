"""Sign a statement, in one of three forms.

ssh        by ssh-keygen, which knows agents, passphrases, FIDO tokens and certificates
sigstore   with a key in a file; the offline side takes it where a list of signers has the key
dsse       the same without what sigstore puts around it: for in-toto tools, and not taken by the offline side
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bundler.errors import DependencyError, UsageError
from bundler.trust.paths import Form
from bundler.trust.signature_file import NAMESPACE, SignedStatement, parse_signature
from bundler.trust.statement import Statement


def sign(statement: Statement, key: Path, form: Form = "ssh") -> SignedStatement:
    """Sign a statement; the result is verified, so that what cannot be verified elsewhere is not handed out.

    Args:
        statement: What is said.
        key: A private key; or, for the form `ssh`, a public key or certificate whose private half is beside it or in
            an agent.
        form: The form that its content has.

    Raises:
        DependencyError: There is no ssh-keygen.
        TrustError: The key makes signatures that are not accepted, as a short RSA key does.
        UsageError: The key cannot sign in this form.
    """
    return _sign_by_ssh_keygen(statement, key) if form == "ssh" else _sign_by_file(statement, key, form)


def _sign_by_file(statement: Statement, path: Path, form: Form) -> SignedStatement:
    from bundler.trust.dsse.envelope import sign_payload
    from bundler.trust.dsse.sigstore_bundle import SigstoreBundle

    envelope, key = sign_payload(statement.dumps(), path)
    bundle = SigstoreBundle.of(envelope, key).dumps()
    signed = parse_signature(bundle, source=f"signature by {path}", keys=[key])
    return (
        signed if form == "sigstore" else replace(signed, content=f"{json.dumps(envelope.as_json())}\n".encode())
    )


def _sign_by_ssh_keygen(statement: Statement, key: Path) -> SignedStatement:
    text = statement.dumps()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE]
    # A token is waited for in words on stderr; a passphrase is asked for at the terminal.
    errors = None if sys.stderr.isatty() else subprocess.PIPE
    try:
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=errors, check=False)
    except FileNotFoundError as error:
        raise DependencyError(
            "signing takes ssh-keygen, and there is none", hint="install the package openssh-client"
        ) from error
    if done.returncode:
        said = (done.stderr or b"see above").decode(errors="backslashreplace").strip()
        raise UsageError(
            f"{key}: ssh-keygen cannot sign with it: {said}",
            hint="name a private key, or the public half of one that is in your agent (`ssh-add -l`)",
        )
    return parse_signature(done.stdout + text, source=f"signature by {key}")
