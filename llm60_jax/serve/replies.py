"""Answers of the server: JSON in plain ASCII, and errors in the shape of OpenAI's API."""

import json
from typing import Any

Headers = list[tuple[bytes, bytes]]
FAILED = "internal error; the terminal of the server shows it"  # of what nobody foresaw


class Refusal(Exception):
    """A request that gets an error as its answer.

    `param` names the field at fault. `headers` are added to the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Headers | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or []

    def to_tree(self) -> dict[str, Any]:
        """Return the body of the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def encoded(value: Any) -> bytes:
    """Return a JSON value as bytes. Escapes keep every character, lone surrogates too."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
