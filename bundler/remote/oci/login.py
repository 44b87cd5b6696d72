"""Show a registry who asks: by tokens that it gives out for a repository, or by name and password.

Source: OCI distribution's and docker's token authentication (distribution.github.io/distribution/spec/auth/token,
.../auth/oauth).

Rule book:

* nothing is shown before the registry asks for it, and the password only to the realm that its challenge names. That
  must be https, unless the registry itself is asked by http;
* a token lasts for minutes: when it is refused, the next one is asked for.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode

from bundler.errors import RemoteError
from bundler.remote.address import show
from bundler.remote.http.answer import BROKEN
from bundler.remote.http.client import Client, explain_broken
from bundler.remote.http.login import BasicLogin
from bundler.remote.oci.credentials import Credentials, find_credentials
from bundler.remote.oci.reference import Reference

Action = Literal["pull", "push"]
_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_MOST_ANSWER_BYTES = 1 << 20
_CLIENT_ID = "bundle"


class RegistryLogin:
    """A login to one repository (see `bundler.remote.http.login.Login`).

    Args:
        client: Asks for tokens.
        reference: The repository.
        action: What is to be done there.
    """

    def __init__(self, client: Client, reference: Reference, action: Action = "pull") -> None:
        self._client, self._reference = client, reference
        self._scope = f"repository:{reference.name}:{'pull' if action == 'pull' else 'pull,push'}"
        self._more_scopes: list[str] = []
        self._headers: Mapping[str, str] = {}
        self._mutex = threading.Lock()
        self._has_looked = False
        self._credentials: Credentials | None = None

    def also_read(self, name: str) -> None:
        """Ask for tokens that let another repository of this registry be read too, as mounting from it takes."""
        self._more_scopes = [f"repository:{name}:pull"]
        self._headers = {}

    def headers(self) -> Mapping[str, str]:
        """Return the headers of a request."""
        return self._headers

    def renew(self, challenge: str) -> bool:
        """Get what the challenge asks for; tell whether there is something new to show."""
        with self._mutex:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                self._headers = {"Authorization": f"Bearer {self._get_token(dict(_PARAMETER.findall(rest)))}"}
                return True
            credentials = self._look_up()
            if scheme.lower() != "basic" or credentials is None or self._headers:
                return False
            self._headers = BasicLogin(credentials.user, credentials.password).headers()
            return True

    def _look_up(self) -> Credentials | None:
        if not self._has_looked:
            self._credentials = find_credentials(self._reference.host, self._reference.name)
            self._has_looked = True
        return self._credentials

    def _get_token(self, challenge: Mapping[str, str]) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://") if self._reference.is_plain else "https://"):
            raise RemoteError(
                f"{self._reference.host}: tokens are to be had from {show(realm) or 'nowhere'}, which is not asked: "
                "expected an https address"
            )
        credentials = self._look_up()
        query = [("service", challenge["service"])] if "service" in challenge else []
        scopes = [self._scope, *self._more_scopes]
        try:
            if credentials is not None and credentials.identity_token:
                form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", credentials.identity_token),
                    ("client_id", _CLIENT_ID),
                    ("scope", " ".join(scopes)),
                    *query,
                ]
                # What is sent is a login, so it goes nowhere else.
                answer = self._client.send(
                    "POST",
                    realm,
                    {"Content-Type": "application/x-www-form-urlencoded"},
                    content=urlencode(form).encode(),
                    follow=False,
                )
            else:
                login = BasicLogin(credentials.user, credentials.password) if credentials else None
                query += [("scope", scope) for scope in scopes]
                mark = "&" if "?" in realm else "?"
                answer = self._client.send("GET", f"{realm}{mark}{urlencode(query)}", login=login)
            with answer:
                if answer.status != 200:
                    raise RemoteError(
                        f"{self._reference.host}: {show(realm)} answered {answer.status} when it was asked for a token",
                        hint=f"log in: `docker login {self._reference.host}` or `podman login`",
                        status=answer.status,
                    )
                said = json.loads(answer.read(_MOST_ANSWER_BYTES))
            token = said.get("token") or said.get("access_token")
        except BROKEN as error:
            raise explain_broken(error, realm) from error
        except (ValueError, AttributeError, RecursionError) as error:
            raise RemoteError(f"{show(realm)}: expected a token in JSON, found something else") from error
        # A line break would be a header of its own.
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RemoteError(f"{show(realm)}: expected a token in its answer, found none")
        return token
