"""Which variables and files of a launch hold secrets that nothing offline has a use for, as a pure function.

Rule book:

* by name, and only names that belong to a service: a program's own PAD_TOKEN is no secret;
* what is hidden is listed in the report, without its value; `--pass-env NAME` lets one through;
* OFFLINE_MODE.md has the same table, held equal by a test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

_END = r"(_?(KEY|KEY_ID|TOKEN|TOKEN_FILE|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?|CONNECTION_STRING|JWT))"

# Service -> the variables that are hidden, as a pattern of the whole name.
SECRETS: dict[str, str] = {
    "AWS and S3": rf"(AWS|S3|MINIO)_(.+_)?{_END}|AWS_CONTAINER_CREDENTIALS_\w+",
    "Azure": rf"(AZURE|ARM)_(.+_)?{_END}",
    "Google": rf"(GOOGLE|GCP|GCLOUD|CLOUDSDK|GEMINI)_(.+_)?{_END}|GOOGLE_APPLICATION_CREDENTIALS",
    "other clouds": rf"(OCI|DIGITALOCEAN|CLOUDFLARE|ALIBABA_CLOUD|ALICLOUD|IBMCLOUD|LINODE|RUNPOD|MODAL)_(.+_)?{_END}",
    "GitHub and GitLab": rf"(GITHUB|GH|GITLAB|GL|CI|ACTIONS|BITBUCKET)_(.+_)?({_END}|PAT)",
    "Hugging Face": r"HF_TOKEN|HF_TOKEN_PATH|HUGGING_FACE_HUB_TOKEN|HUGGINGFACE(HUB)?_(API_)?TOKEN|HF_API_(KEY|TOKEN)",
    "experiment trackers": rf"(WANDB|NEPTUNE|COMET|MLFLOW|CLEARML|TRACKIO|SWANLAB)_(.+_)?{_END}",
    "model services": rf"(OPENAI|ANTHROPIC|MISTRAL|COHERE|TOGETHER|REPLICATE|NGC|NVIDIA|KAGGLE)_(.+_)?{_END}",
    "package registries": rf"(PYPI|TWINE|NPM|UV_PUBLISH|DOCKER|CONDA|ARTIFACTORY)_(.+_)?{_END}",
    "vaults and databases": rf"(VAULT|CONSUL|NOMAD|PG|PGPASS|MYSQL|POSTGRES|REDIS|MONGO)_?(.+_)?{_END}",
}
_SECRET = re.compile("|".join(f"(?:{pattern})" for pattern in SECRETS.values()))
# What `hf auth login` leaves beside a cache.
_TOKEN_FILES = ("token", "stored_tokens")


def find_secrets(names: Iterable[str], passed: Collection[str] = ()) -> tuple[str, ...]:
    """Return which variables of `names` are hidden, sorted.

    Args:
        names: Names of the variables of an environment.
        passed: Names to let through.
    """
    return tuple(sorted(name for name in names if name not in passed and _SECRET.fullmatch(name)))


def find_token_files(homes: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files in these cache roots that hold tokens of the Hub, less those that this user may not look at."""
    files = (home / name for home in dict.fromkeys(homes) for name in _TOKEN_FILES)
    # Unlike the method of a path, it takes one that cannot be looked at for none: then no program of the user reads it.
    return tuple(path for path in files if os.path.isfile(path))  # noqa: PTH113
