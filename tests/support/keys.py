"""Real SSH keys, certificates and signatures, made by ssh-keygen."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
    "rsa": ["-t", "rsa", "-b", "2048"],
}


@dataclass(frozen=True)
class Key:
    """A key pair in files."""

    path: Path

    @property
    def public(self) -> str:
        """Its public half: type and base64."""
        return " ".join(self.path.with_name(f"{self.path.name}.pub").read_text().split()[:2])

    def line(self, principals: str, options: str = "") -> str:
        """A line of allowed_signers."""
        return " ".join(filter(None, [principals, options, self.public])) + "\n"


def make_key(folder: Path, name: str = "key", kind: str = "ed25519") -> Key:
    """Make a key pair without a passphrase."""
    folder.mkdir(parents=True, exist_ok=True)
    keygen(*KINDS[kind], "-N", "", "-q", "-C", "", "-f", str(folder / name))
    return Key(folder / name)


def certify(authority: Key, key: Key, *options: str, principals: str = "alice@example.org") -> Path:
    """Have an authority sign a key; returns the certificate."""
    public = key.path.with_name(f"{key.path.name}.pub")
    keygen("-q", "-s", str(authority.path), "-I", "alice's", "-n", principals, *options, str(public))
    return key.path.with_name(f"{key.path.name}-cert.pub")


def keygen(*arguments: str, stdin: bytes = b"") -> bytes:
    """Run ssh-keygen, which must succeed."""
    done = subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def keygen_sign(key: Path, message: bytes, namespace: str, *options: str) -> bytes:
    """Sign as ``ssh-keygen -Y sign`` does; `key` may be a certificate beside its private key."""
    return keygen("-Y", "sign", "-f", str(key), "-n", namespace, *options, stdin=message)


def keygen_verifies(
    signers: Path, signature: Path, message: bytes, namespace: str, identity: str = "alice@example.org"
) -> bool:
    """Tell whether ``ssh-keygen -Y verify`` accepts a signature."""
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        str(signers),
        "-I",
        identity,
        "-n",
        namespace,
        "-s",
        str(signature),
    ]
    return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0
