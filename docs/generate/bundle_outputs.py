"""What the commands of `bundle` write as JSON.

Meanings come from the docstrings of the dataclasses that the values come from; what stands here in words is in no
dataclass. `tests/docs/test_bundle_outputs.py` runs the commands, and finds keys that are not listed here.
"""

from __future__ import annotations

from docs.generate.outputs import Key, Output, described, fields, key

_REPO = "bundler/plan/locked_repo.py:LockedRepo"
_INDEX = "bundler/format/base_records.py:BaseRecord"
_PLAN = "bundler/make/room.py:RepoPlan"
_SUMMARY = "bundler/format/summary.py:BundleSummary"
_FETCH = "bundler/make/fetch.py:FetchResult"
_PACK = "bundler/make/pack.py:PackResult"
_MADE = "bundler/make/bundle.py:Made"
_REPLACED = "bundler/format/replaced.py:Replaced"
_COPIED = "bundler/make/split.py:Copied"
_SOURCE = "bundler/home/lock_source.py:LockSource"
_DIFF = "bundler/plan/lock_diff.py:LockDiff"
_REPO_DIFF = "bundler/plan/lock_diff.py:RepoDiff"
_FILE_DIFF = "bundler/plan/lock_diff.py:FileDiff"
_BUNDLE_PLAN = "bundler/make/bundle_plan.py:BundlePlan"
_INSTALL_PLAN = "bundler/home/installation/plan.py:InstallPlan"
_ROOM = "bundler/files/space.py:Room"
_PACKED = "bundler/make/pack_once.py:Packed"
_PROOF = "bundler/make/proof/run.py:Proof"
_COMMAND = "bundler/make/proof/command.py:CommandProof"
_LOCK_VALUE = "bundler/plan/lock.py:Lock"
_STAGED = "bundler/make/cache/staged.py:Staged"
_STAGED_FILES = "bundler/make/cache/staged.py:StagedFiles"
_PICKLES = "bundler/make/pickles.py:PickleScan"
_ENTRY = "bundler/make/proof/run.py:EntryProof"
_INSTALL = "bundler/home/installation/result.py:InstallResult"
_HELD = "bundler/home/common/conflicts.py:Held"
_CLOSED = "bundler/home/sharing/readers.py:Closed"
_LOG = "bundler/home/log.py:LogEntry"
_INSTALLED = "bundler/home/installed.py:InstalledBundle"
_GENERATION = "bundler/home/generations/inventory.py:Generation"
_HOME_REPORT = "bundler/home/generations/verify_all.py:HomeReport"
_VERDICT = "bundler/trust/judge.py:Verdict"
_JUDGEMENT = "bundler/trust/judge.py:Judgement"
_STATEMENT = "bundler/trust/statement.py:Statement"
_REPORT = "bundler/verify/report.py:Report"
_FAULT = "bundler/verify/report.py:Fault"
_FINDING = "bundler/doctor/diagnosis.py:Diagnosis"
_LAUNCH = "bundler/offline/launch/report.py:LaunchReport"
_VERIFIED = "bundler/offline/launch/report.py:VerifiedBundle"
_COMPLETED = "bundler/offline/launch/launch.py:Completed"
_ISOLATION = "bundler/offline/kernel/isolation.py:Isolation"
_ATTEMPT = "bundler/offline/guard/attempts.py:Attempt"
_DENIAL = "bundler/offline/kernel/supervisor.py:Denial"
_VARIABLES = "bundler/offline/variables.py:OfflineEnvironment"
_ERROR = "bundler/errors.py:BundleError"

_NAME = key("name", "string", "Name of the bundle.")
_DIGEST = key("digest", "string", "Digest of the bundle, `sha256:` and 64 hex digits.")
_LOCK = key("lock", "string", "Path of the lock.")
_WARNINGS = key("warnings", "array of strings", "What a person should know of, and is no error.")
_NOTES = key("notes", "array of strings", "What was unusual and was handled, as stderr says it.")
_HOME = key("hf_home", "string", "The cache root.")


def _licenses(under: str) -> Key:
    meaning = "What its card claims, in the card's words; null in a lock of a version that did not read cards."
    return key(f"{under}licenses", "array of strings or null", meaning)


def _repo(*, aliases: bool = False) -> tuple[Key, ...]:
    more = (described("repos[].aliases", "array of strings", _REPO),) if aliases else ()
    return (
        key("repos", "array of objects", "One for each entry of the lock, in its order."),
        described("repos[].kind", "string", _REPO),
        described("repos[].repo_id", "string", _REPO),
        described("repos[].revision", "string", _REPO),
        described("repos[].commit", "string", _REPO),
        *more,
    )


_REPLACED_KEYS = (
    key("replaced.paths", "array of strings", "The files; volumes that are deleted among them."),
    described("replaced.digest", "string or null", _REPLACED),
    described("replaced.size_bytes", "integer", _REPLACED),
)


def _old_signature(under: str) -> tuple[Key, ...]:
    return (
        key(f"{under}replaced.sequence", "integer or null", "Its release; null if it could not be used."),
        key(
            f"{under}replaced.digest",
            "string or null",
            "The digest that it was for; null if it could not be used.",
        ),
    )


_ROOMS = (
    key("rooms", "array of objects", "The room that each stage needs, in order. Exit code 10 if it is not there."),
    described("rooms[].stage", "string", _ROOM),
    described("rooms[].place", "string or null", _ROOM),
    described("rooms[].needed_bytes", "integer", _ROOM),
    described("rooms[].free_bytes", "integer or null", _ROOM),
)
_TRUST = (
    key("trusted", "boolean", "Whether signature, statement and policies let the bundle be used."),
    described("signer", "string or null", _JUDGEMENT),
    described("verdicts", "array of objects", _JUDGEMENT),
    *fields(_VERDICT, "verdicts[]"),
)
_LOCK_OUTPUT = Output(
    call="bundle lock --json",
    summary="What the lock holds now, and what changed in it.",
    keys=(
        _LOCK,
        _NAME,
        key("written", "boolean", "Whether the lock was written; it is not when nothing changed."),
        key("files", "integer", "Files of all entries.", "files"),
        key("size_bytes", "integer", "Their sizes together."),
        key("repos", "array of objects", "One for each entry of the lock, then one for each that is gone."),
        described("repos[].kind", "string", _REPO),
        described("repos[].repo_id", "string", _REPO),
        described("repos[].revision", "string", _REPO),
        key("repos[].status", "string", "`added`, `unchanged`, `updated` or `removed`."),
        key("repos[].commit", "string or null", "What the revision resolved to; null for an entry that is gone."),
        key("repos[].previous_commit", "string or null", "What it resolved to before; null for a new entry."),
        key("repos[].files", "integer", "Files of the entry; 0 when it is gone.", "files"),
        key("repos[].size_bytes", "integer", "Their sizes together."),
        _WARNINGS,
    ),
)
_CHECK_OUTPUT = Output(
    call="bundle lock --check --json",
    summary="Whether the lock fits the manifest. Exit code 3 if it does not.",
    keys=(
        _LOCK,
        key("matches", "boolean", "Whether it fits."),
        key("differences", "array of strings", "What does not fit, one phrase each."),
    ),
)
_FETCH_OUTPUT = Output(
    call="bundle fetch --json",
    summary="What was downloaded, proven and packed.",
    keys=(
        _NAME,
        described("bundle", "string", _PACK, "path"),
        key("volumes", "array of strings", "Paths of the volumes, in order; empty for one file."),
        described("already_packed", "boolean", _PACKED, "was_there"),
        described("digest", "string", _PACK),
        described("whole_digest", "string", _PACK),
        key("base", "object or null", "Of a delta, the bundle that it was made against; else null."),
        described("base.name", "string", _INDEX),
        described("base.digest", "string or null", _INDEX),
        described("replaced", "object or null", _MADE),
        *_REPLACED_KEYS,
        key("bundle_bytes", "integer", "Length of the bundle file, or of all volumes together.", "bytes"),
        described("tar_bytes", "integer", _PACK, "raw_bytes", "bytes"),
        key("ratio", "number", "`tar_bytes` divided by `bundle_bytes`, to four places."),
        _LOCK,
        described("files", "integer", _FETCH, unit="files"),
        described("size_bytes", "integer", _FETCH),
        described("downloaded_files", "integer", _FETCH, unit="files"),
        described("downloaded_bytes", "integer", _FETCH, "received_bytes"),
        described("cached_files", "integer", _FETCH, unit="files"),
        key("proof", "object", "What was shown to load offline before anything was packed."),
        described("proof.entries", "array of objects", _PROOF),
        *fields(_ENTRY, "proof.entries[]"),
        *fields(_PROOF, "proof", units={"network_attempts": "attempts", "seconds": "seconds"}, apart=["entries"]),
        described("commands", "array of objects", _MADE),
        *fields(_COMMAND, "commands[]", units={"seconds": "seconds"}),
        key(
            "pickles",
            "array of objects",
            "What picklescan says of each pickle file; empty if it is not installed.",
        ),
        *(
            described(f"pickles[].{name}", type_, _PICKLES, when="with pickle files")
            for name, type_ in (
                ("repo_id", "string"),
                ("path", "string"),
                ("dangerous", "array of strings"),
                ("unknown", "array of strings"),
                ("problem", "string or null"),
            )
        ),
        _WARNINGS,
        _NOTES,
        key("signature", "object or null", "The signature, where `--sign` asked for one."),
        key("signature.path", "string", "Where it stands."),
        described("signature.sequence", "integer", _STATEMENT),
        key("signature.replaced", "object or null", "The signature that stood in its place; null if none did."),
        *_old_signature("signature."),
        key("parity", "array of strings", "Files of parity that `--parity` asked for; empty if it did not."),
    ),
)
_DRY_RUN_OUTPUT = Output(
    call="bundle fetch --dry-run --json",
    summary="What a fetch would download. Nothing is written.",
    keys=(
        *_repo(),
        described("repos[].files", "integer", _PLAN, unit="files"),
        described("repos[].size_bytes", "integer", _PLAN),
        key("repos[].staged_bytes", "integer", "How much of that is in the store, whole files and begun ones."),
        described("repos[].cached_bytes", "integer", _PLAN),
        key("repos[].download_bytes", "integer", "What would be downloaded."),
        key("download_bytes", "integer", "The same of all entries together."),
        described("commands", "array of strings", _BUNDLE_PLAN),
        key("bundle", "string", "The bundle that would be written."),
        described("replaced", "object or null", _BUNDLE_PLAN),
        *_REPLACED_KEYS,
        *_ROOMS,
        _WARNINGS,
        _NOTES,
    ),
)
_STAGED_KEYS = tuple(
    found
    for name in ("content", "unfinished", "records")
    for found in (
        described(name, "object", _STAGED_FILES),
        *fields(_STAGED, name, units={"files": "files"}),
    )
)
_STAGING_FOLDER = key("folder", "string", "The folder in which `bundle fetch` stages downloads.")
_CACHE_OUTPUT = Output(
    call="bundle cache list --json",
    summary="What is staged for fetches.",
    keys=(_STAGING_FOLDER, *_STAGED_KEYS),
)
_CACHE_PRUNE_OUTPUT = Output(
    call="bundle cache prune --json",
    summary="What was deleted of that, or would be.",
    keys=(
        _STAGING_FOLDER,
        key("dry_run", "boolean", "Whether `--dry-run` was given, and nothing deleted."),
        *_STAGED_KEYS,
    ),
)
_INSTALL_PLAN_OUTPUT = Output(
    call="bundle install --dry-run --json",
    summary="What an installation would write. Nothing is written.",
    keys=(
        *fields(_INSTALL_PLAN, units={"files": "files", "written_files": "files"}, apart=["rooms"]),
        _HOME,
        *_ROOMS,
    ),
)
_SIGN_OUTPUT = Output(
    call="bundle sign --json",
    summary="What was signed.",
    keys=(
        key("signature", "string", "Path of the signature."),
        _NAME,
        _DIGEST,
        described("sequence", "integer", _STATEMENT),
        key("key", "string", "Fingerprint of the key, as `ssh-keygen -l` shows it."),
        key("is_proven", "boolean", "Whether the statement says what was proven."),
        key("replaced", "object or null", "The signature that stood in its place; null if none did."),
        *_old_signature(""),
    ),
)
_INSTALL_OUTPUT = Output(
    call="bundle install --json",
    summary="What was verified and written.",
    keys=(
        _NAME,
        _DIGEST,
        _HOME,
        described("files", "integer", _INSTALL, unit="files"),
        key("size_bytes", "integer", "Their sizes together."),
        described("written_files", "integer", _INSTALL, unit="files"),
        described("written_bytes", "integer", _INSTALL),
        described("symlinks", "boolean", _INSTALL),
        described("replaced", "string or null", _INSTALL),
        described("has_view", "boolean", _INSTALL),
        key("moved_refs", "array of objects", "Refs in the shared view that now name another commit."),
        key("moved_refs[].path", "string", "The ref, below `hf_home`."),
        key("moved_refs[].before", "string", "The commit that it named before."),
        key("moved_refs[].after", "string", "The commit that it names now."),
        described("held", "array of objects", _INSTALL),
        *fields(_HELD, "held[]"),
        described("left_out", "array of strings", _INSTALLED),
        described("closed", "array of objects", _INSTALL),
        *fields(_CLOSED, "closed[]"),
        key("set_aside", "array of objects", "Files that stood in a snapshot and that no bundle ships."),
        key("set_aside[].path", "string", "Where the file was, below `hf_home`."),
        key("set_aside[].moved_to", "string", "Where it is now, below `hf_home`."),
        described("rebuilt", "array of strings", _INSTALL),
    ),
)
_VERIFY_OUTPUT = Output(
    call="bundle verify --json",
    summary="The outcome of a verification. Exit code 6 if `ok` is false, else 20 if `trusted` is.",
    keys=(
        described("subject", "string", _REPORT),
        described("digest", "string", _REPORT),
        key("ok", "boolean", "Whether nothing is wrong."),
        described("quick", "boolean", _REPORT),
        *_TRUST,
        described("files", "integer", _REPORT, unit="files"),
        described("hashed_bytes", "integer", _REPORT, "size_bytes", "bytes"),
        described("undecoded_files", "integer", _REPORT),
        described("faults", "array of objects", _REPORT),
        *fields(_FAULT, "faults[]", words=["kind"]),
    ),
)
_VERIFY_ALL_OUTPUT = Output(
    call="bundle verify --all --json",
    summary="The outcome for each generation of each bundle. Exit code 6 if `ok` is false; 18 if all that is wrong is "
    "that something may not be read, 20 if it is that bundles are refused.",
    keys=(
        _HOME,
        key("ok", "boolean", "Whether nothing is wrong, and all could be looked at."),
        described("reports", "array of objects", _HOME_REPORT),
        key("reports[].name", "string", "Name of the bundle."),
        described("reports[].is_current", "boolean", _GENERATION),
        described("reports[].subject", "string", _REPORT),
        described("reports[].digest", "string", _REPORT),
        key("reports[].ok", "boolean", "Whether nothing is wrong with it."),
        described("reports[].quick", "boolean", _REPORT),
        key("reports[].trusted", "boolean", "As for one bundle."),
        described("reports[].signer", "string or null", _JUDGEMENT),
        described("reports[].verdicts", "array of objects", _JUDGEMENT),
        *fields(_VERDICT, "reports[].verdicts[]"),
        described("reports[].files", "integer", _REPORT, unit="files"),
        key(
            "reports[].hashed_bytes",
            "integer",
            "Bytes that were hashed; content that was hashed before is not again.",
        ),
        key("reports[].undecoded_files", "integer", "0: what is installed is decoded."),
        described("reports[].faults", "array of objects", _REPORT),
        *fields(_FAULT, "reports[].faults[]", words=["kind"]),
        described("errors", "array of objects", _HOME_REPORT),
        described("errors[].exit_code", "integer", _ERROR),
        described("errors[].message", "string", _ERROR),
    ),
)
_POLICY_OUTPUT = Output(
    call="bundle policy check --json",
    summary="What each rule says of a bundle. Exit code 20 if `trusted` is false.",
    keys=(_NAME, *_TRUST),
)
_INSPECT_OUTPUT = Output(
    call="bundle inspect --json",
    summary="What a bundle holds, from its index and its lock.",
    keys=(
        _NAME,
        _DIGEST,
        described("whole_digest", "string", _SUMMARY),
        key("bundle_bytes", "integer", "Length of the bundle file, or of all volumes together.", "bytes"),
        key("tar_bytes", "integer", "Length of the tar stream that it decodes to."),
        key("volumes", "array of strings", "Paths of the volumes, in order; empty for one file."),
        key("base", "object or null", "For a delta, the bundle that it was made against; else null."),
        described("base.name", "string", _INDEX),
        described("base.digest", "string or null", _INDEX),
        key("base.omitted_files", "integer", "Contents that the delta leaves out.", "contents"),
        key("chunks", "object", "Codec -> how many chunks have it."),
        key("chunks.*", "integer", "Chunks with that codec.", "chunks"),
        described("proven_by", "array of strings", _LOCK_VALUE),
        *_repo(aliases=True),
        _licenses("repos[]."),
        key("repos[].url", "string or null", "Of a file of another host its address; else null."),
        key("repos[].files", "integer", "Files of the entry.", "files"),
        key("repos[].size_bytes", "integer", "Their sizes together."),
        key("repos[].prepared_files", "integer", "Prepared dataset files.", "files"),
        key("repos[].prepared_bytes", "integer", "Their sizes together."),
        key("repos[].listing", "array of strings", "Paths of the files, sorted.", when="with `--files`"),
    ),
)
_DIFF_OUTPUT = Output(
    call="bundle diff --json",
    summary="What differs between two locks. Exit code 20 if anything does and `--exit-code` is given.",
    keys=(
        *(
            entry
            for side in ("before", "after")
            for entry in (
                key(side, "object", f"Where the {'first' if side == 'before' else 'second'} lock is from."),
                described(f"{side}.label", "string", _SOURCE),
                key(f"{side}.name", "string", "Name of the bundle."),
                described(f"{side}.digest", "string or null", _SOURCE),
                described(f"{side}.bundle_bytes", "integer or null", _SOURCE),
                key(f"{side}.content_bytes", "integer", "Sizes of all files together."),
            )
        ),
        key("equal", "boolean", "Whether every entry is unchanged."),
        described("repos", "array of objects", _DIFF),
        *fields(_REPO_DIFF, "repos[]", words=["status"], apart=["files", "before_licenses", "after_licenses"]),
        described("repos[].before_licenses", "array of strings or null", _REPO_DIFF),
        described("repos[].after_licenses", "array of strings or null", _REPO_DIFF),
        described("repos[].files", "array of objects", _REPO_DIFF),
        *fields(_FILE_DIFF, "repos[].files[]", words=["status"]),
        *fields(
            _DIFF,
            units=dict.fromkeys(("new_files", "gone_files", "shared_files"), "contents"),
            apart=["repos"],
        ),
    ),
)
_SPLIT_OUTPUT = Output(
    call="bundle split --json",
    summary="The volumes that were written.",
    keys=(
        _DIGEST,
        key("bundle_bytes", "integer", "Length of the bundle as one file.", "bytes"),
        key("volumes", "array of strings", "Paths of the volumes, in order."),
        described("replaced", "object or null", _COPIED),
        *_REPLACED_KEYS,
        key("parity", "array of strings", "Files of parity that `--parity` asked for; empty if it did not."),
    ),
)
_JOIN_OUTPUT = Output(
    call="bundle join --json",
    summary="The file that was written.",
    keys=(
        key("bundle", "string", "Path of the file."),
        _DIGEST,
        key("bundle_bytes", "integer", "Its length.", "bytes"),
        described("replaced", "object or null", _COPIED),
        *_REPLACED_KEYS,
    ),
)
_LIST_OUTPUT = Output(
    call="bundle list --json",
    summary="What is installed. Exit code 6 if a receipt is damaged.",
    keys=(
        _HOME,
        key("bundles", "array of objects", "The installed bundles, by name."),
        key("bundles[].name", "string", "Name of the bundle."),
        described("bundles[].digest", "string", _INSTALLED),
        key("bundles[].repos", "array of strings", "Ids of its repos, one for each entry of the lock."),
        described("bundles[].left_out", "array of strings", _INSTALLED),
        key("bundles[].files", "integer", "Blobs and prepared files of what is installed.", "files"),
        key("bundles[].size_bytes", "integer", "Their sizes together."),
        key("bundles[].entries", "array of objects", "One for each entry of the lock, in its order."),
        described("bundles[].entries[].kind", "string", _REPO),
        described("bundles[].entries[].repo_id", "string", _REPO),
        described("bundles[].entries[].revision", "string", _REPO),
        described("bundles[].entries[].commit", "string", _REPO),
        described("bundles[].entries[].aliases", "array of strings", _REPO),
        described("bundles[].entries[].trust_remote_code", "boolean", _REPO),
        described("bundles[].entries[].allow_pickle", "boolean", _REPO),
        described("bundles[].entries[].endpoint", "string or null", _REPO),
        _licenses("bundles[].entries[]."),
        key("bundles[].entries[].files", "integer", "Files of the entry.", "files"),
        key("bundles[].entries[].size_bytes", "integer", "Their sizes together."),
        key("bundles[].generations", "array of objects", "All that are there, the newest first."),
        described("bundles[].generations[].digest", "string", _INSTALLED),
        described("bundles[].generations[].left_out", "array of strings", _INSTALLED),
        key("bundles[].generations[].files", "integer", "Its blobs and prepared files.", "files"),
        key("bundles[].generations[].size_bytes", "integer", "Their sizes together."),
        described("bundles[].generations[].is_current", "boolean", _GENERATION),
        described("bundles[].generations[].has_view", "boolean", _INSTALL),
        *(
            described(f"bundles[].generations[].{name}", f"{type_} or null", _LOG, attribute)
            for name, type_, attribute in (
                ("installed_at", "string", "at"),
                ("installed_by", "string", "by"),
                ("installed_by_uid", "integer", "uid"),
                ("installed_with", "string", "version"),
                ("source", "string", "source"),
            )
        ),
        key(
            "bundles[].generations[].signature",
            "object or null",
            "What was kept with it; null if it is not signed.",
        ),
        key("bundles[].generations[].signature.key", "string or null", "Fingerprint; whose it is, a policy says."),
        key("bundles[].generations[].signature.sequence", "integer or null", "The release."),
        key("bundles[].generations[].signature.signed_at", "string or null", "Time in UTC, ISO 8601."),
        key("bundles[].generations[].signature.problem", "string or null", "Why it cannot be used; else null."),
        key("damaged", "array of strings", "What is wrong with each damaged receipt."),
        key("unfinished", "array of strings", "Names of bundles whose installation did not end."),
    ),
)
_PATH_OUTPUT = Output(
    call="bundle path --json",
    summary="Where a repo is, verified.",
    keys=(
        key("repo_id", "string", "The id or alias that was asked for."),
        key("bundle", "string", "Name of the bundle that it is of."),
        _DIGEST,
        key("path", "string", "The snapshot folder."),
    ),
)
_RUNNING = (
    key("running", "array of objects", "Generations that stay, since a launch reads them."),
    key("running[].digest", "string", "Digest of the generation."),
    key("running[].launch", "string", "Process and host of the launch, in words."),
)
_REMOVE_OUTPUT = Output(
    call="bundle remove --json",
    summary="What was uninstalled.",
    keys=(
        _NAME,
        key("generations", "integer", "How many generations are gone.", "generations"),
        key("deleted", "array of objects", "One for each of them."),
        key("deleted[].digest", "string", "Digest of the generation."),
        key("deleted[].freed_bytes", "integer", "Content that only it needed.", "bytes"),
        key("freed_bytes", "integer", "Content that nothing else needed.", "bytes"),
        *_RUNNING,
    ),
)
_ROLLBACK_OUTPUT = Output(
    call="bundle rollback --json",
    summary="What is current now.",
    keys=(
        _NAME,
        _DIGEST,
        key("before", "string or null", "Digest of the generation that was current, and stays; null if none was."),
    ),
)
_PRUNE_OUTPUT = Output(
    call="bundle prune --json",
    summary="What was deleted, or would be.",
    keys=(
        key("dry_run", "boolean", "Whether nothing was deleted."),
        key("pruned", "array of objects", "One for each generation that is gone, or would be."),
        key("pruned[].name", "string", "Name of the bundle."),
        key("pruned[].digest", "string", "Digest of the generation."),
        key("pruned[].freed_bytes", "integer", "Content that only it needed.", "bytes"),
        _RUNNING[0],
        key("running[].name", "string", "Name of the bundle."),
        *_RUNNING[1:],
        key("freed_bytes", "integer", "All content that is gone, or would be.", "bytes"),
    ),
)
_LOG_OUTPUT = Output(
    call="bundle log --json",
    summary="What changed in the home.",
    keys=(
        _HOME,
        key("changes", "array of objects", "One for each change, from old to new."),
        *fields(_LOG, "changes[]", words=["action"]),
    ),
)
_DOCTOR_OUTPUT = Output(
    call="bundle doctor --json",
    summary="What was looked at. Exit code 16 if `ok` is false.",
    keys=(
        key("ok", "boolean", "Whether there is no problem; warnings do not count."),
        key("findings", "array of objects", "One for each thing that was looked at."),
        *fields(_FINDING, "findings[]", words=["state"]),
    ),
)
_ENV_OUTPUT = Output(
    call="bundle env --json",
    summary="What an offline launch changes in the environment.",
    keys=(
        described("set", "object", _VARIABLES, "values"),
        key("set.*", "string", "Value of the variable."),
        described("default", "object", _VARIABLES, "defaults"),
        key("default.*", "string", "Value of the variable."),
        key("prepend", "object", "Variables that hold a list of folders, to put one first in."),
        described("prepend.PYTHONPATH", "string", _VARIABLES, "python_path"),
        described("unset", "array of strings", _VARIABLES, "cleared"),
    ),
)
_RUN_OUTPUT = Output(
    call="bundle run --report FILE",
    summary="The report of a launch, written to FILE at its end.",
    keys=(
        key("report_version", "integer", "1. A key may be added without another number."),
        described("hf_home", "string", _LAUNCH),
        key("bundles", "array of objects", "What was verified before the launch."),
        described("bundles[].name", "string", _VERIFIED),
        described("bundles[].digest", "string", _VERIFIED),
        described("bundles[].files", "integer", _VERIFIED, unit="files"),
        described("bundles[].hashed_bytes", "integer", _VERIFIED, "size_bytes", "bytes"),
        described("bundles[].quick", "boolean", _VERIFIED),
        described("bundles[].stamped_bytes", "integer", _VERIFIED, "stamped_bytes", "bytes"),
        key("bundles[].how", "string", "How its content was looked at: `full`, `stamped` or `quick`."),
        described("command", "array of strings", _LAUNCH),
        described("exit_code", "integer", _COMPLETED),
        described("hidden", "array of strings", _LAUNCH),
        key("isolation", "object", "What kept the command off the network."),
        key("isolation.kind", "string", "`netns`, `seccomp`, `landlock` or `none`."),
        described("isolation.detail", "string", _ISOLATION),
        key("isolation.allow_net", "array of strings", "Networks that stayed in reach besides this machine."),
        key("attempts", "object", "Uses of the network that were refused."),
        key("attempts.total", "integer", "All that are known; none is counted twice.", "attempts"),
        key("attempts.python", "integer", "Those that the guard refused in Python processes.", "attempts"),
        described("attempts.kernel", "integer or null", _COMPLETED, "kernel_refused", "attempts"),
        described("attempts.inner", "integer", _COMPLETED, "inner_refused", "attempts"),
        described("attempts.lost", "integer", _COMPLETED, unit="attempts"),
        described("attempts.uncounted", "array of strings", _COMPLETED),
        key("attempts.expected", "array of objects", "The targets of `--expect`."),
        key("attempts.expected[].target", "string", "As it was given."),
        key(
            "attempts.expected[].count",
            "integer",
            "How often it was refused, in `attempts.total` too.",
            "attempts",
        ),
        key("attempts.speaks_for", "string", "Whose attempts are counted, and so for what `--strict` speaks."),
        described("attempts.refused", "array of objects", _COMPLETED, "refused"),
        *fields(_ATTEMPT, "attempts.refused[]"),
        key(
            "attempts.kernel_refused",
            "array of objects",
            "What the kernel refused, where its target is known: all under `seccomp`.",
        ),
        *fields(_DENIAL, "attempts.kernel_refused[]", units={"count": "attempts"}),
    ),
)
_SERVE_OUTPUT = Output(
    call="bundle serve --json",
    summary="One line, written once connections are accepted.",
    keys=(
        key("endpoint", "string", "What to set `HF_ENDPOINT` to."),
        key("path", "string", "What is served."),
        key("repos", "array of objects", "The repos that are served."),
        key("repos[].repo_type", "string", "`model` or `dataset`."),
        key("repos[].repo_id", "string", "Canonical id."),
    ),
)
ERROR = Output(
    call="any `bundle` command with --json that fails",
    summary="Instead of the result; a verification that finds faults writes its report all the same.",
    keys=(
        key("error", "object", "The failure."),
        key("error.exit_code", "integer", "Exit code of the command: see [exit codes](exit-codes.md)."),
        described("error.message", "string", _ERROR),
        described("error.hint", "string or null", _ERROR),
    ),
)

OUTPUTS = (
    _LOCK_OUTPUT,
    _CHECK_OUTPUT,
    _FETCH_OUTPUT,
    _DRY_RUN_OUTPUT,
    _CACHE_OUTPUT,
    _CACHE_PRUNE_OUTPUT,
    _INSTALL_PLAN_OUTPUT,
    _INSTALL_OUTPUT,
    _VERIFY_OUTPUT,
    _VERIFY_ALL_OUTPUT,
    _SIGN_OUTPUT,
    _POLICY_OUTPUT,
    _INSPECT_OUTPUT,
    _DIFF_OUTPUT,
    _SPLIT_OUTPUT,
    _JOIN_OUTPUT,
    _LIST_OUTPUT,
    _PATH_OUTPUT,
    _REMOVE_OUTPUT,
    _ROLLBACK_OUTPUT,
    _PRUNE_OUTPUT,
    _LOG_OUTPUT,
    _DOCTOR_OUTPUT,
    _ENV_OUTPUT,
    _RUN_OUTPUT,
    _SERVE_OUTPUT,
    ERROR,
)
