"""Keep secrets out of what is recorded.

Three nets, because each alone leaks: the name of the key, the parts of a URL that carry
credentials, and the look of the value itself (known token shapes, and long mixed strings with the
entropy of a key). Fingerprints pass: hexadecimal has at most four bits a character.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"

_SECRET_WORDS = frozenset(
    {"password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "credential"}
    | {"credentials", "apikey", "auth", "authorization", "bearer", "cookie"}
)
_SECRET_KEYS = frozenset({"api", "access", "private", "secret", "signing", "encryption", "account"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"([a-z][a-z0-9+.-]*://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
_KNOWN = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS access key id
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-)[A-Za-z0-9_-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"  # JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}",
    re.DOTALL,
)
_CANDIDATE = re.compile(r"[A-Za-z0-9+_=-]{24,}(?:/[A-Za-z0-9+_=-]+)*|[A-Za-z0-9+/_=-]{38,44}")
_MIN_BITS = 4.25


def redact(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a nested mapping in which every secret reads `[redacted]`."""
    return {str(key): _redact_value(str(key), value) for key, value in tree.items()}


def redact_text(text: str) -> str:
    """Hide credentials in free text: URL logins and queries, token shapes, random-looking keys."""
    text = _KNOWN.sub(HIDDEN, text)
    text = _QUERY.sub(rf"\1?{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))
    return _CANDIDATE.sub(lambda match: HIDDEN if _is_random(match[0]) else match[0], text)


def is_secret_key(key: str) -> bool:
    """Say whether a key's name promises a secret: `hub_token` does, `max_tokens` does not."""
    words = [word.lower() for word in _WORDS.findall(key.rpartition(".")[2])]
    pairs = itertools.pairwise(words)
    return bool(_SECRET_WORDS.intersection(words)) or any(
        first in _SECRET_KEYS and second in {"key", "keys"} for first, second in pairs
    )


def _redact_value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact(value)
    if value is not None and not isinstance(value, bool) and is_secret_key(key):
        return HIDDEN
    if isinstance(value, list | tuple):
        return [_redact_value(key, item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def _is_random(text: str) -> bool:
    """Say whether a run of characters looks drawn at random from all of base 64."""
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(kind(letter) for letter in text) for kind in kinds):
        return False
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) >= _MIN_BITS
