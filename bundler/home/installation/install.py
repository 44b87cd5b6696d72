"""Install a bundle into HF_HOME: verify, write blobs, then snapshots, then refs, then the receipt.

Rule book (each line is a guarantee that `tests/home/installation/test_install*.py` tries to break):

* room is checked before anything is written;
* a blob is written under a temporary name on the same file system, hashed on the way, synced, and renamed only if
  it is what the lock names; a blob that is already there is used only after hashing;
* nothing that the libraries can see is written before every blob is in place, and the receipt comes last: a run
  that is killed leaves the cache as usable as before, and the next run goes on from what is verified;
* what is damaged is rebuilt from parity, where there is some, and goes through all of these steps as what was not;
* a bundle is read from a file, from volumes, from an address or from a pipe by the same steps
  (`bundler.format.source`): of a pipe, the index that confirms the chunks comes last, and so nothing is published
  before its end;
* what a run that fails or is killed leaves verified is listed (`bundler.home.common.journal`), and used or deleted by
  the next one, or by a removal;
* what stood there before stays when the bundle is removed (`bundler.home.common.journal`);
* what stands in a snapshot and no bundle ships is moved out of it, never deleted (`bundler.home.common.set_aside`);
* paths and links come from the lock through `bundler.plan.layout`, never from the tar stream;
* one process at a time installs or removes (`bundler.home.exclusive`); what needs a ref that another installed
  bundle needs otherwise is refused before it writes (`bundler.home.common.conflicts`), so that every installed bundle
  always verifies.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bundler.errors import FormatError
from bundler.files.parallel import available_cores
from bundler.files.space import report_full_disk
from bundler.format.source import Source
from bundler.format.storage.stream_input import Readable
from bundler.home.exclusive import Note, lock_home, no_note
from bundler.home.home import Home
from bundler.home.installation.open_source import open_source
from bundler.home.installation.result import InstallResult
from bundler.home.installation.steps import Installation
from bundler.home.sharing.group import find_group, finish_sharing, let_group_read, prepare_sharing
from bundler.home.stamps.take import stamp_installed
from bundler.home.trust.gate import Admission, admit
from bundler.parity.fallback import Fallback
from bundler.remote.address import Place
from bundler.verify.report import Progress, no_progress


def install(
    source: Place | Sequence[Path] | Readable,
    hf_home: Path,
    *,
    only: Sequence[str] = (),
    group: str | None = None,
    signature: Path | None = None,
    policy: Path | None = None,
    allow_rollback: bool = False,
    parity: Sequence[Path] | None = (),
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Note = no_note,
) -> InstallResult:
    """Verify a bundle and unpack it into `hf_home`.

    Args:
        source: The bundle: a file, volumes (`bundler.format.storage.volumes.open_stored`), an
            address, or a raw stream.
        hf_home: The cache root; made when missing.
        only: Repo ids or aliases: install these repos and read no other's bytes. What is installed of the same
            bundle already stays; default everything.
        group: A group, by name or number, that is to read what is installed, whatever the umask. Its folders get the
            setgid bit. While it is installed the umask of this process is another one.
        signature: The bundle's signature; default the one beside it, where there is one.
        policy: A policy that must hold besides the machine's; default that of BUNDLE_POLICY.
        allow_rollback: Take a bundle that is older than what was installed under its name.
        parity: Files of parity besides those that are beside the bundle: what is damaged or missing is rebuilt from
            them, and named. For a pipe, which is copied then, only these. None for refusing what is damaged.
        jobs: Threads; default all cores.
        on_total: Called with the number of bytes that `progress` will add up to; where something has to be rebuilt,
            once more for the search, and for what follows.
        progress: Called with the number of bytes verified since the last call.
        on_note: Told what a person should know of and is no error.

    Raises:
        ConflictError: Another installed bundle needs a ref, or another name, to be something else: nothing was
            written.
        FormatError: Not a bundle, or damaged: nothing visible was changed.
        IntegrityError: Its content is not what its lock names: nothing visible was changed.
        NotInstalledError: The bundle has no repo that `only` names: nothing was written.
        PolicyError: A policy is malformed: nothing was written.
        SpaceError: Not enough room: nothing was written.
        UntrustedError: A folder of the home is a link of a stranger's, or may be changed by every user: nothing was
            written.
        UsageError: There is no such group, or this user is not in it.
        TrustError: Its signature, its statement or a policy is against it, or it is older: nothing is left of it.
    """
    gid = None if group is None else find_group(group)

    def install_it(bundle: Source) -> InstallResult:
        with (
            contextlib.closing(bundle),
            let_group_read(gid),
            lock_home(hf_home, on_note=on_note),
        ):
            admission = admit(
                bundle,
                hf_home,
                signature=signature,
                policy=policy,
                allow_rollback=allow_rollback,
                on_note=on_note,
            )
            return _install(
                bundle, Home(hf_home), only, gid, jobs or available_cores(), admission, on_total, progress
            )

    with Fallback(source, parity) as fallback:
        try:
            return install_it(open_source(fallback.source))
        except FormatError as error:
            with fallback.open(error, on_total=on_total, progress=progress, on_note=on_note) as rebuilt:
                done = install_it(rebuilt.reader)
            return replace(done, rebuilt=tuple(map(str, rebuilt.files)))


def _install(
    bundle: Source,
    home: Home,
    only: Sequence[str],
    gid: int | None,
    jobs: int,
    admission: Admission,
    on_total: Callable[[int], None],
    progress: Progress,
) -> InstallResult:
    """Install a bundle that may come in, under the lock of the home."""
    installation = Installation(bundle, home, only, jobs, admission)
    home.trusted_users.check_content(installation.content)
    prepare_sharing(home.path, installation.content, gid)
    with report_full_disk(
        home.path,
        f"{home.path}: the file system filled up while installing; what is written is kept and verified",
        hint="free some space and run the same command again",
    ):
        begun = time.time()
        result = installation.run(on_total, progress)
    done = result.bundle
    closed = finish_sharing(home.path, done.name, done.digest, done.layout, done.view, gid)
    # Last of all: whatever changes a file changes its stamp.
    stamp_installed(done, installation.written, begun, admission.on_note)
    return replace(result, closed=closed)
