"""The packages of the project, one line each, and the order that their imports give them.

The order is computed; the lines are written here, and `order` refuses a package without one.
"""

from __future__ import annotations

from docs.generate.sources import arrows, packages

PROJECTS = ("bundler", "infini_llama")
LINES: dict[str, dict[str, str]] = {
    "bundler": {
        "text": "strict YAML, and words for people",
        "files": "digests, safe paths, atomic and parallel file work",
        "plan": "manifest, lock, and what a lock means on disk",
        "console": "printing, options and error ends that both commands share",
        "remote": "bytes of an object at an address: a web server, a registry, an object store",
        "format": "the bundle file: codecs, index, volumes, reader, writer",
        "hub": "asking the Hub: connection, and which files an entry takes",
        "verify": "checking a bundle file or one volume, and reports of checks",
        "parity": "what is lost of a bundle on the way, rebuilt from files beside it",
        "serve": "a read-only Hub from a folder, a cache or a bundle",
        "trust": "who made a bundle and whether it may be used: signature, statement, policy",
        "transfer": "a bundle to and from an address: push, pull, and one file or tensor of it",
        "home": "an HF_HOME: install, verify, list, remove",
        "offline": "running a program with the network shut",
        "make": "store, download, proof and packing",
        "draft": "writing manifests: from a program that runs, from source code, entry by entry",
        "doctor": "looking at an environment as the libraries will see it",
        "cli": "the commands of `bundle`: parse, call, print",
    },
    "infini_llama": {
        "settings": "the YAML file of a run, checked key by key",
        "run_folder": "checkpoints, provenance, metrics and the lock of a run",
        "model": "the model: segments, memory, attention, loss, conversion",
        "data": "raw data to tokens to rows of segments",
        "parallel": "a model, its checkpoints and its rows, shared among ranks",
        "report": "the page of a run",
        "train": "the training of a run, on one process or many",
        "tasks": "recall, passkey and generation",
        "cli": "the commands of `infini-llama`",
    },
}


def order(project: str) -> list[list[str]]:
    """Return the packages by level: each imports only packages of levels before its own.

    Raises:
        LookupError: A package has no line here, or a line is of no package.
        ValueError: Imports go in a circle.
    """
    there, lines = set(packages(project)), set(LINES[project])
    if there != lines:
        wrong = ", ".join(sorted(there ^ lines))
        raise LookupError(
            f"{project}: expected one line for each package in docs/generate/parts.py; look at: {wrong}"
        )
    imports = {name: found & there for name, found in arrows(project).items() if name in there}
    levels: list[list[str]] = []
    done: set[str] = set()
    while len(done) < len(imports):
        level = sorted(name for name, found in imports.items() if name not in done and found <= done)
        if not level:
            raise ValueError(f"{project}: imports go in a circle among {', '.join(sorted(set(imports) - done))}")
        levels.append(level)
        done |= set(level)
    return levels


def direct(project: str) -> set[tuple[str, str]]:
    """Return (package, imported package) without the pairs that others imply."""
    there = set(packages(project))
    imports = {name: found & there for name, found in arrows(project).items() if name in there}

    def reached(name: str) -> set[str]:
        return imports[name].union(*(reached(below) for below in imports[name]))

    return {
        (name, below)
        for name, found in imports.items()
        for below in found
        if not any(below in reached(other) for other in found - {below})
    }


def table(project: str) -> str:
    """Return the packages as a table, in the order of their levels."""
    rows = [f"| `{project}/{name}/` | {LINES[project][name]} |" for level in order(project) for name in level]
    return "\n".join(["| package | holds |", "| --- | --- |", *rows])
