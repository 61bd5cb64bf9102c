"""What is printed, without its secrets: user names and passwords in addresses, secret parameters, and secrets that were read.

Whatever goes to the terminal, to the journal or into a sentence about a setting passes here: at the last moment (`streams`, `log`), and
once before where it is shortened. Two ways lead to a secret: how it is written (`bob:hunter2@`, `pwd=`, `"password":`,
also where the address around it is broken), and being known: `learn` takes what the command line, the environment and files hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["learn", "learn_secret", "redacted", "redacted_setting"]

HIDDEN = "***"

_MIN_SECRET = 4
"""Characters. A shorter secret would be replaced in words that have nothing to do with it."""
_MAX_VALUE = 65536
"""Characters of a value in which secrets are looked for."""

_WORD = re.compile(r"""[^\s"'<>`]+""")
_SCHEME = re.compile(r".*?(?:[A-Za-z][A-Za-z0-9+.-]{0,20}:/+|//)", re.DOTALL)
_BEFORE_USER = re.compile(r"[\w.-]*[=(\[{]+")
_AUTHORITY = re.compile(r"[^/?#]*@")
_NO_PORT = re.compile(r"([^/?#@:\[\]]+:)(?![0-9]{1,5}(?:[^0-9A-Za-z_@]|$))[^/?#]+")
_PARAMETER = re.compile(
    r"""([?&;][^?=&;#\s"']{0,64}?(?:user|usr|login|pass|pwd|secret|token|auth|key)[^?=&;#\s"']{0,64}=)[^&;#\s"'<>`]*""", re.IGNORECASE
)
_SECRET_NAME = re.compile(r"passw|passphrase|pwd|secret|token|credential|api[_-]?key", re.IGNORECASE)
# systemd's LoadCredential= names a file and holds no secret; SetCredential= does.
_PAIR = re.compile(
    r"""(?P<name>passw(?:or)?d|passphrase|pwd|secret|token|(?<!Load)credentials?|api[_-]?key)(?P<quote>\\*["'])?(?P<sign>\s{0,8}[=:]\s{0,8})"""
    r"""(?:(?P<nested>\\+["'])(?:(?!(?P=nested)).)*|(?P<open>["'])(?:\\.|(?!(?P=open))[^\\])*|(?P<bare>[^\s"'&,;)}\]]+))""",
    re.IGNORECASE | re.DOTALL,
)
_SECRET_PARAMETER = re.compile(r"[?&;][^?=&;#]{0,64}?(?:pass|pwd|secret|token|auth|key)[^?=&;#]{0,64}=([^&;#]*)", re.IGNORECASE)
_EXAMPLES = {"user", "[user"}
"""Users in what `--help` and errors say of addresses."""
_NO_SECRET = {"unset", "null", "none", "true", "false"}


class _Known:
    """The secrets that were read. Replaced as a whole, so that any thread may look."""

    secrets: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


def redacted(text: object) -> str:
    """Return the text as it may be shown. What is hidden becomes ***; a text without secrets stays as it is.

    >>> redacted("rtsp://admin:hunter2@cam.local/stream?channel=1&pwd=hunter2")
    'rtsp://***@cam.local/stream?channel=1&pwd=***'
    """
    shown = str(text)
    if _Known.pattern is not None:
        shown = _Known.pattern.sub(HIDDEN, shown)
    if "@" in shown or "//" in shown or ":/" in shown:
        shown = _WORD.sub(_without_user, shown)
    if "=" in shown:
        shown = _PARAMETER.sub(rf"\1{HIDDEN}", shown)
    if _SECRET_NAME.search(shown):
        shown = _PAIR.sub(_without_value, shown)
    return shown


def redacted_setting(key: str, value: str) -> str:
    """Return a setting's value as it may be shown. A key that the user has named may say that it is a secret.

    >>> redacted_setting("sinks.webhook.header_files.password", "hunter2")
    '***'
    >>> redacted_setting("sinks.mqtt.password_file", "/etc/edgeannot/password")
    '/etc/edgeannot/password'
    """
    name = key.rpartition(".")[2]
    return HIDDEN if _SECRET_NAME.search(name) and not name.endswith("_file") else redacted(value)


def learn_secret(secret: str) -> None:
    """Hide this text wherever it is printed from now on, also as addresses, JSON and Python write it."""
    secret = secret.strip()
    if len(secret) < _MIN_SECRET or secret in _Known.secrets:
        return
    forms = {secret, unquote(secret), quote(secret, safe="", errors="surrogatepass"), quote(secret, errors="surrogatepass")}
    forms |= {form for text in (secret, unquote(secret)) for form in (repr(text)[1:-1], json.dumps(text)[1:-1])}
    _Known.secrets |= {form for form in forms if len(form) >= _MIN_SECRET}
    _Known.pattern = re.compile("|".join(_whole(form) for form in sorted(_Known.secrets, key=len, reverse=True)))


def learn(values: Iterable[Any]) -> None:
    """Hide from now on the passwords of the addresses that are among the values of settings, in lists and tables as well."""
    for value in values:
        if isinstance(value, str):
            _learn_from(value)
        elif isinstance(value, dict):
            learn(value.values())
        elif isinstance(value, list | tuple):
            learn(value)


def _learn_from(value: str) -> None:
    """Learn the secrets of a value that is one address: a password may hold blanks and quotes, which end a word elsewhere.

    A server may repeat what it was sent, without the parameter's name before it.
    """
    if len(value) > _MAX_VALUE:
        return
    for found in _SECRET_PARAMETER.finditer(value):
        learn_secret(found[1])
    user, at, _ = value.rpartition("@")
    if at:
        scheme = _SCHEME.match(user)
        learn_secret(user[scheme.end() if scheme else 0 :].partition(":")[2])


def _whole(form: str) -> str:
    """Make the pattern for a secret; a short word is not looked for inside of others."""
    return rf"(?<!\w){re.escape(form)}(?!\w)" if len(form) < 8 and form.isalnum() else re.escape(form)


def _without_user(match: re.Match[str]) -> str:
    """Return a word without the user and the password before its @, and without what is no port behind a host."""
    word = match[0]
    scheme = _SCHEME.match(word)
    start = scheme.end() if scheme else 0
    user, at, rest = word[start:].rpartition("@")
    if user in _EXAMPLES:
        return word
    if at and (":" in user or (scheme and not re.search(r"[/?#]", user))):
        before = _BEFORE_USER.match(user) if not scheme else None
        return f"{word[:start]}{before[0] if before else ''}{HIDDEN}@{rest}"
    if scheme and (found := _AUTHORITY.match(word, start)):
        return f"{word[:start]}{HIDDEN}@{word[found.end() :]}"
    if scheme and (found := _NO_PORT.match(word, start)):
        return f"{word[:start]}{found[1]}{HIDDEN}{word[found.end() :]}"
    return word


def _without_value(match: re.Match[str]) -> str:
    """Match `password = x` in a text like TOML, `"password": x` in one like JSON. A sentence may go on after a colon."""
    bare, opening = match["bare"], match["open"] or match["nested"] or ""
    if ":" in match["sign"] and not match["quote"] and not (opening and match["name"].lower() != "token"):
        return match[0]
    if bare is not None and (bare.lower() in _NO_SECRET or bare.startswith(HIDDEN)):
        return match[0]
    return f"{match['name']}{match['quote'] or ''}{match['sign']}{opening}{HIDDEN}"
