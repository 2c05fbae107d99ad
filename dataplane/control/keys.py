"""The keys by which requests of the API are signed: a file that nobody but its owner reads.

A YAML list of ``{access_key, secret_key, project, read_only}``; `project` is ``*`` for a key that is
good for every one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dataplane.terminal import printable

#: Where keys are, unless another place is named.
KEYS_FILE = "/etc/dataplane/keys.yaml"
#: The project of a key that may act for every one.
ANY_PROJECT = "*"
_BYTES_MAX = 1 << 20


class KeysError(ValueError):
    """The keys cannot be taken: one sentence that says why, and what to do."""


class Key(BaseModel):
    """An access key with its secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    access_key: Annotated[str, Field(pattern=r"^[\x21-\x2b\x2d-\x7e]{1,128}$")]
    secret_key: Annotated[str, Field(min_length=8, max_length=256, repr=False)]
    project: Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9_.-]{1,64})$")]
    read_only: bool = False


class Keys:
    """Keys by their access keys."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            if self._keys.setdefault(key.access_key, key) is not key:
                raise KeysError(f"access_key {printable(key.access_key)} is there twice: remove one of the two")
        #: Whether all keys are of one project, so that there is nothing to hide from any.
        self.of_one_project = len({key.project for key in self._keys.values()}) <= 1

    def get(self, access_key: str) -> Key | None:
        """The key, if there is one."""
        return self._keys.get(access_key)

    def secret_of(self, access_key: str) -> str | None:
        """Its secret."""
        key = self._keys.get(access_key)
        return key.secret_key if key else None

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Reads a file. Raises KeysError."""
        try:
            return cls(_parsed(_text(path)))
        except KeysError as error:
            raise KeysError(f"{printable(str(path))}: {error}") from None


def _text(path: Path) -> bytes:
    try:
        # A FIFO would keep who opens it waiting.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeysError(
            f"the keys cannot be read: {error.strerror}: write a list of {{access_key, secret_key, project}} there"
            " (chmod 600), or name another file with --keys"
        ) from None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise KeysError("it is no regular file")
        if found.st_mode & 0o077:
            raise KeysError("others than its owner may read or write it: chmod 600")
        if found.st_uid not in (0, os.geteuid()):
            raise KeysError(f"it is of user {found.st_uid}: it must be root's or that of who runs dataplane")
        text = file.read(_BYTES_MAX + 1)
    if len(text) > _BYTES_MAX:
        raise KeysError(f"it is longer than {_BYTES_MAX:,} bytes")
    return text


def _parsed(text: bytes) -> list[Key]:
    import yaml

    try:
        value: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # What is wrong is told without what stands there: it may be a secret.
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise KeysError(f"it is no YAML{place}") from None
    try:
        keys = TypeAdapter(list[Key]).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        index = ".".join(map(str, first["loc"])) or "the list"
        raise KeysError(
            f"{index}: {first['msg']}: write a list of {{access_key, secret_key, project, read_only}}"
        ) from None
    if not keys:
        raise KeysError("there is no key in it")
    return keys
