"""The one exception tree of the project; each class carries the exit code that the commands end with.

Rule book:

* every failure that a user can cause or meet is a `BundleError`; anything else that escapes is a bug;
* the message says what was expected, what was found and where; `hint` says the next step;
* exit codes are part of the public interface: a code is never reused for another meaning.

`EXIT_CODES` is the table that `OFFLINE_MODE.md` shows, held equal by a test; `bundle --help` says where that is.
It covers the trainer too, whose own errors are in `infini_llama.errors`.
"""

from __future__ import annotations


class BundleError(Exception):
    """A failure with a message for a person and an exit code for a script.

    Attributes:
        message: What was expected, what was found, and where.
        hint: The next step for the user, or None.
        exit_code: Process exit code, 1 to 125.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(BundleError):
    """A request that contradicts itself, or does not fit what it is applied to."""

    exit_code = 2


class ManifestError(BundleError):
    """A manifest is malformed; the message lists every fault with its key path."""

    exit_code = 3


class LockError(BundleError):
    """A lock is malformed, incomplete, or does not belong to the manifest that it stands beside."""

    exit_code = 3


class NetworkError(BundleError):
    """The Hub could not be reached: refused, timed out, or a proxy stood in the way."""

    exit_code = 4


class HubError(BundleError):
    """The Hub answered, and the answer was no: unknown repo, revision or file, gated, or rate limited."""

    exit_code = 5


class RemoteError(BundleError):
    """The server of an address answered, and the answer was no.

    Attributes:
        status: The status code of its answer; None where there is none.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class IntegrityError(BundleError):
    """Bytes are not the ones that the lock names: wrong digest, missing or extra files."""

    exit_code = 6


class ChangedError(IntegrityError):
    """What an address leads to, or an installed base, is other content than a moment ago, or than a digest says."""


class MissingBaseError(IntegrityError):
    """Content is stored as its difference from other content, which is not here."""


class UntrustedError(IntegrityError):
    """Something in an HF_HOME belongs to somebody who is not trusted there, or may be changed by every user."""


class FormatError(BundleError):
    """A file is not a bundle, or is one that this version cannot read: truncated, unknown version, unsafe path."""

    exit_code = 7


class DamagedError(FormatError):
    """A bundle, but some bytes of it are not those that were written.

    Attributes:
        chunk: Number of the damaged chunk, from 0; None if the damage lies outside chunks.
    """

    exit_code = 6

    def __init__(self, message: str, *, hint: str | None = None, chunk: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.chunk = chunk


class ProofError(BundleError):
    """What was fetched does not load without a network."""

    exit_code = 8


class NotInstalledError(BundleError):
    """No such bundle, repo or alias in this HF_HOME."""

    exit_code = 9


class SpaceError(BundleError):
    """Not enough room on the file system; nothing was started."""

    exit_code = 10


class OfflineError(BundleError):
    """The offline guarantee cannot be given, or something tried to use the network under it."""

    exit_code = 11


class SandboxError(OfflineError):
    """Code of a repo would run without anything that holds it."""


class DependencyError(BundleError):
    """A package that this operation needs is not installed."""

    exit_code = 13


class OutputError(BundleError):
    """Output did not get to where it was written to: the reader of a bundle is gone, or the device is full."""

    exit_code = 15


class ConflictError(BundleError):
    """Two bundles in one HF_HOME would need one name to be two things."""

    exit_code = 17


class AccessError(BundleError):
    """The system does not let a file be read or written: permissions, a read-only mount, a failing disk."""

    exit_code = 18


class PolicyError(BundleError):
    """A policy, or a list of signers that it names, is malformed: nothing can be decided by it."""

    exit_code = 3


class TrustError(BundleError):
    """A bundle is refused: by its signature, by its statement, by a policy, or since it is older than what was there.

    Nothing of it was installed or started.
    """

    exit_code = 20


# `bundle diff --exit-code`
DIFFERS = 21
# EX_TEMPFAIL of sysexits.h: try again.
STOPPED_BY_SIGNAL = 75

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "unexpected failure (a bug: please report it)",
    2: "wrong usage of a command",
    3: "manifest, lock or policy malformed, or manifest and lock do not belong together",
    4: "the Hub, or the server of an address, cannot be reached (connection, proxy, time-out)",
    5: "the Hub, or the server of an address, refused (no such repo, revision or file; gated; rate limited)",
    6: "verification failed: missing, extra or changed bytes, or what everybody may change",
    7: "not a bundle, or one that this version cannot read",
    8: "the fetched files do not load offline",
    9: "no such bundle or repo is installed",
    10: "not enough disk space (nothing was started)",
    11: "the offline guarantee, or the sandbox of the proof, cannot be given, or was violated",
    12: "a training configuration is malformed",
    13: "a Python package that this operation needs is missing",
    14: "the training data is missing, empty or not UTF-8",
    15: "standard output: the reader was gone before the bundle was through, or it cannot be written",
    16: "`bundle doctor` found a problem",
    17: "conflicts with another installed bundle (nothing was installed)",
    18: "the system does not let a file be read or written",
    19: "`infini-llama train`: the loss or the weights are no longer finite; the last checkpoint is from before",
    20: "refused by its signature, its statement or a policy, or older than what was installed (nothing was done)",
    DIFFERS: "`bundle diff --exit-code`: the two differ",
    STOPPED_BY_SIGNAL: "`infini-llama train`: stopped by a signal, with a checkpoint; go on with `--resume`",
    126: "`bundle run`, `bundle record`: the command cannot be executed",
    127: "`bundle run`, `bundle record`: the command was not found",
    130: "interrupted with Ctrl-C (128 + n for another signal n)",
    141: "the reader of standard output was gone, as in a pipe to `head -1`",
}
