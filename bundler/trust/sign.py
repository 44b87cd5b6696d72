"""Sign a statement, by ssh-keygen: it knows agents, passphrases, FIDO tokens and certificates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bundler.errors import DependencyError, UsageError
from bundler.trust.signature_file import NAMESPACE, SignedStatement, parse_signature
from bundler.trust.statement import Statement


def sign(statement: Statement, key: Path) -> SignedStatement:
    """Sign a statement; the result is verified, so that what cannot be verified elsewhere is not handed out.

    Args:
        statement: What is said.
        key: A private key; or a public key or certificate whose private half is beside it or in an agent.

    Raises:
        DependencyError: There is no ssh-keygen.
        TrustError: The key makes signatures that are not accepted, as a short RSA key does.
        UsageError: ssh-keygen cannot sign with this key.
    """
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
