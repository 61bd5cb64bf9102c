"""The answer to a server that asks for a login: Basic (RFC 7617) and Digest (RFC 7616, also as cameras do RFC 2617)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from urllib.request import parse_http_list, parse_keqv_list

__all__ = ["Login"]

_SCHEME = re.compile(r"(?:^|,)\s*(basic|digest)\s+", re.IGNORECASE)
_HASHES = {"md5": hashlib.md5, "sha-256": hashlib.sha256}
"""Digest's algorithms, without -sess."""


class Login:
    """One user at one server. For one thread."""

    def __init__(self, user: str, password: str, make_nonce: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._user, self._password = user, password
        self._make_nonce = make_nonce
        self._scheme = ""
        self._challenge: dict[str, str] = {}
        self._count = 0

    def accept(self, challenges: Sequence[str]) -> bool:
        """Remember what the server asks for, the safest first; False where another answer would be no other than the last one.

        challenges: the headers WWW-Authenticate.
        """
        asked: dict[str, dict[str, str]] = {}
        parts = [part for challenge in challenges for part in _SCHEME.split(challenge)[1:]]  # one header may have several
        for scheme, words in zip(parts[::2], parts[1::2], strict=True):
            with contextlib.suppress(ValueError, IndexError):  # of what is no list of names and values
                asked.setdefault(scheme.lower(), parse_keqv_list(parse_http_list(words)))
        if "digest" in asked and self._hash(asked["digest"]) and "nonce" in asked["digest"]:
            told = asked["digest"]
            refused = self._scheme == "digest" and told.get("stale", "").lower() != "true" and self._count == 1
            self._scheme, self._challenge, self._count = "digest", told, 0
            return not refused
        if "basic" in asked:
            refused, self._scheme = self._scheme == "basic", "basic"
            return not refused
        return False

    def header(self, method: str, target: str) -> dict[str, str]:
        """Return the header for a request; none before the server has asked. target: path and query, as they are sent."""
        if self._scheme == "basic":
            pair = f"{self._user}:{self._password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        if self._scheme == "digest":
            return {"Authorization": f"Digest {self._digest(method, target)}"}
        return {}

    @staticmethod
    def _hash(challenge: dict[str, str]) -> Callable[[str], str] | None:
        made = _HASHES.get(challenge.get("algorithm", "MD5").lower().removesuffix("-sess"))
        return None if made is None else lambda text: made(text.encode()).hexdigest()

    def _digest(self, method: str, target: str) -> str:
        told, make = self._challenge, self._hash(self._challenge)
        assert make is not None  # noqa: S101 - `accept` has looked
        self._count += 1
        realm, nonce, count, own = told.get("realm", ""), told["nonce"], f"{self._count:08x}", self._make_nonce()
        whose = make(f"{self._user}:{realm}:{self._password}")
        if told.get("algorithm", "").lower().endswith("-sess"):
            whose = make(f"{whose}:{nonce}:{own}")
        what = make(f"{method}:{target}")
        safe = "auth" in [word.strip() for word in told.get("qop", "").split(",")]
        answer = make(f"{whose}:{nonce}:{count}:{own}:auth:{what}") if safe else make(f"{whose}:{nonce}:{what}")
        user = self._user.encode().decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        words = [f'username="{user}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"', f'response="{answer}"']
        words += [f'{name}="{told[name]}"' for name in ("opaque",) if name in told]
        words += [f"algorithm={told['algorithm']}"] if "algorithm" in told else []
        words += ["qop=auth", f"nc={count}", f'cnonce="{own}"'] if safe else []
        return ", ".join(words)
