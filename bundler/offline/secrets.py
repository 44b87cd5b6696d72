"""Which variables and files of a launch hold secrets that nothing offline has a use for, as a pure function.

Rule book:

* by name, and only names that belong to a service: a program's own PAD_TOKEN is no secret;
* what is hidden is listed in the report, without its value; `--pass-env NAME` lets one through;
* OFFLINE_MODE.md has the same table, held equal by a test.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

_ENDS = (
    *("KEY", "KEY_ID", "TOKEN", "TOKEN_FILE", "SECRET", "PASSWORD", "PASSPHRASE"),
    *("CREDENTIAL", "CREDENTIALS", "CONNECTION_STRING", "JWT"),
)


class Names(NamedTuple):
    """Variables of a service: `PREFIX_END`, `PREFIX_whatever_END`, and some by their whole names.

    Attributes:
        prefixes: What they begin with, before an underscore.
        ends: What they end with, after one.
        whole: Whole names.
        beginnings: What others begin with, whatever follows.
        joined: Whether the end may also follow the prefix at once, as in PGPASSWORD.
    """

    prefixes: tuple[str, ...] = ()
    ends: tuple[str, ...] = _ENDS
    whole: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ()
    joined: bool = False

    def have(self, name: str) -> bool:
        """Tell whether a variable is one of them."""
        if name in self.whole or any(name.startswith(begin) and name != begin for begin in self.beginnings):
            return True
        rests = [name.removeprefix(f"{prefix}_") for prefix in self.prefixes if name.startswith(f"{prefix}_")]
        if self.joined:
            rests += [name.removeprefix(prefix) for prefix in self.prefixes if name.startswith(prefix)]
        middles = (rest.removesuffix(end) for rest in rests for end in self.ends if rest.endswith(end))
        return any(not middle or middle.endswith("_") for middle in middles)


# Service -> the variables that are hidden. No patterns: to compile these takes a launch as long as all else in here.
SECRETS: dict[str, Names] = {
    "AWS and S3": Names(("AWS", "S3", "MINIO"), beginnings=("AWS_CONTAINER_CREDENTIALS_",)),
    "Azure": Names(("AZURE", "ARM")),
    "Google": Names(("GOOGLE", "GCP", "GCLOUD", "CLOUDSDK", "GEMINI")),
    "other clouds": Names(
        ("OCI", "DIGITALOCEAN", "CLOUDFLARE", "ALIBABA_CLOUD", "ALICLOUD", "IBMCLOUD", "LINODE", "RUNPOD", "MODAL")
    ),
    "GitHub and GitLab": Names(("GITHUB", "GH", "GITLAB", "GL", "CI", "ACTIONS", "BITBUCKET"), (*_ENDS, "PAT")),
    "Hugging Face": Names(
        whole=(
            *("HF_TOKEN", "HF_TOKEN_PATH", "HF_API_KEY", "HF_API_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
            *("HUGGINGFACE_TOKEN", "HUGGINGFACE_API_TOKEN", "HUGGINGFACEHUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"),
        )
    ),
    "experiment trackers": Names(("WANDB", "NEPTUNE", "COMET", "MLFLOW", "CLEARML", "TRACKIO", "SWANLAB")),
    "model services": Names(
        (
            *("OPENAI", "ANTHROPIC", "MISTRAL", "COHERE", "TOGETHER", "REPLICATE"),
            *("NGC", "NVIDIA", "KAGGLE"),
        )
    ),
    "package registries": Names(("PYPI", "TWINE", "NPM", "UV_PUBLISH", "DOCKER", "CONDA", "ARTIFACTORY")),
    "vaults and databases": Names(
        ("VAULT", "CONSUL", "NOMAD", "PG", "PGPASS", "MYSQL", "POSTGRES", "REDIS", "MONGO"), joined=True
    ),
}
# What `hf auth login` leaves beside a cache.
_TOKEN_FILES = ("token", "stored_tokens")


def find_secrets(names: Iterable[str], passed: Collection[str] = ()) -> tuple[str, ...]:
    """Return which variables of `names` are hidden, sorted.

    Args:
        names: Names of the variables of an environment.
        passed: Names to let through.
    """
    return tuple(sorted(name for name in names if name not in passed and _is_secret(name)))


def find_token_files(homes: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files in these cache roots that hold tokens of the Hub, less those that this user may not look at."""
    files = (home / name for home in dict.fromkeys(homes) for name in _TOKEN_FILES)
    # Unlike the method of a path, it takes one that cannot be looked at for none: then no program of the user reads it.
    return tuple(path for path in files if os.path.isfile(path))  # noqa: PTH113


def _is_secret(name: str) -> bool:
    return any(names.have(name) for names in SECRETS.values())
