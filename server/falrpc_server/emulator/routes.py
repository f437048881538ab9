"""Which request is which: fal's hosts and paths (docs/fal-http-api.md §1, §3, §10). Pure."""

import re
from dataclasses import dataclass

__all__ = ["OPERATIONS", "Bases", "Incoming", "Target", "is_own_path", "queue_base", "target_of"]

OPERATIONS = {
    "run": "POST a model's input to fal.run",
    "stream": "the same, with /stream at the end",
    "submit": "POST a model's input to queue.fal.run",
    "status": "GET …/requests/ID/status",
    "status_stream": "GET …/requests/ID/status/stream",
    "result": "GET …/requests/ID",
    "cancel": "PUT …/requests/ID/cancel",
    "upload_token": "POST rest.fal.ai/storage/auth/token",
    "upload_initiate": "POST rest.fal.ai/storage/upload/initiate",
    "upload_initiate_multipart": "POST rest.fal.ai/storage/upload/initiate-multipart",
    "upload_put": "PUT a file to its signed URL",
    "upload_part": "PUT a part to its signed URL",
    "upload_complete": "POST the list of parts to the signed URL",
    "cdn_upload": "POST a file to v3.fal.media/files/upload",
    "cdn_multipart": "POST v3.fal.media/files/upload/multipart",
    "cdn_part": "PUT a part to its URL on the CDN",
    "cdn_complete": "POST the list of parts to the CDN",
    "cdn_sign": "POST …/sign: a signed URL for a file that not everybody may read",
    "download": "GET a file from the CDN",
    "jwks": "GET rest.fal.ai/.well-known/jwks.json",
}

HOSTS = {
    "fal.run": "run",
    "falrun.com": "run",
    "queue.fal.run": "queue",
    "queue.falrun.com": "queue",
    "rest.fal.ai": "rest",
    "rest.alpha.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "v3b.fal.media": "cdn",
}
NAMESPACES = ("workflows", "comfy")

_HOST_HEADER = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?P<port>:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is: one of fal's operations on an endpoint, a queue request or a file.

    Attributes:
        operation: One of OPERATIONS, `wrong_method` or `unknown`.
        path: The path without the host's name, for operations on files and for unknown ones.
    """

    operation: str
    endpoint: str = ""
    request_id: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Bases:
    """The URLs of fal's hosts, as whoever sent a request reaches them.

    Attributes:
        token_cdn: The CDN that a token is told to be for: another name for the same (§10.2).
    """

    queue: str
    cdn: str
    token_cdn: str

    @classmethod
    def of(cls, scheme: str, host_header: str, fallback: str) -> "Bases":
        """Bases by the names of fal's hosts where the request used one, else below the emulator's URL.

        Args:
            fallback: `host:port` where the emulator listens, for requests without a good Host.
        """
        match = _HOST_HEADER.fullmatch(host_header)
        if match and match["name"].lower() in HOSTS:
            port = match["port"] or ""
            return cls(
                f"{scheme}://queue.fal.run{port}",
                f"{scheme}://v3.fal.media{port}",
                f"{scheme}://v3b.fal.media{port}",
            )
        base = f"{scheme}://{host_header if match else fallback}"
        return cls(f"{base}/queue", f"{base}/cdn", f"{base}/cdn")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A whole request. Header names are in lower case."""

    target: Target
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    bases: Bases


def target_of(method: str, path: str, host: str) -> Target:
    """Tells what a request is. One port serves all hosts: by name, or by the path's first part."""
    role = HOSTS.get(host.partition(":")[0].lower())
    if role is None:
        role, _, path = path.lstrip("/").partition("/")
    path = path.strip("/")
    targets = _targets(role, path)
    if method in targets:
        return targets[method]
    for target in targets.values():
        return Target("wrong_method", target.endpoint, target.request_id, path)
    return Target("unknown", path=path)


def queue_base(endpoint: str) -> str:
    """Owner and alias, with the namespace (§3.2)."""
    parts = endpoint.split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def is_own_path(url: str) -> str | None:
    """The path on the CDN of a URL that may be one of ours, whatever its host; None when it can't be."""
    match = re.match(r"https?://[^/?#]*(?:/cdn)?/(files/b/[^?#]*)", url)
    return match[1] if match else None


def _targets(role: str, path: str) -> dict[str, Target]:
    """What a path means for each method that it has; nothing when there is no such path."""
    match role:
        case "run" if path.endswith("/stream"):
            return {"POST": Target("stream", path.removesuffix("/stream"))}
        case "run" if path:
            return {"POST": Target("run", path)}
        case "queue" if path:
            return _queue_targets(path)
        case "rest":
            return _rest_targets(path)
        case "cdn" if path:
            return _cdn_targets(path)
    return {}


def _queue_targets(path: str) -> dict[str, Target]:
    """Queue URLs: with or without the endpoint's path, a trailing slash, `/response` (§3.2)."""
    endpoint, found, rest = path.partition("/requests/")
    if not found:
        return {"POST": Target("submit", path)}
    request_id, _, tail = rest.partition("/")
    match tail:
        case "" | "response":
            return {"GET": Target("result", endpoint, request_id)}
        case "status":
            return {"GET": Target("status", endpoint, request_id)}
        case "status/stream":
            return {"GET": Target("status_stream", endpoint, request_id)}
        case "cancel":
            return {"PUT": Target("cancel", endpoint, request_id)}
    return {}


def _rest_targets(path: str) -> dict[str, Target]:
    match path:
        case ".well-known/jwks.json":
            return {"GET": Target("jwks", path=path)}
        case "storage/auth/token":
            return {"POST": Target("upload_token", path=path)}
        case "storage/upload/initiate":
            return {"POST": Target("upload_initiate", path=path)}
        case "storage/upload/initiate-multipart":
            return {"POST": Target("upload_initiate_multipart", path=path)}
    return {}


def _cdn_targets(path: str) -> dict[str, Target]:
    """The CDN's paths: uploads, then `files/b/STORE/NAME` and what hangs below it (§10)."""
    match path.split("/"):
        case ["files", "upload"]:
            return {"POST": Target("cdn_upload", path=path)}
        case ["files", "upload", "multipart"]:
            return {"POST": Target("cdn_multipart", path=path)}
        case ["files", "b", _, _, "sign"]:
            return {"POST": Target("cdn_sign", path=path)}
        case ["files", "b", _, _, "complete"]:
            return {"POST": Target("upload_complete", path=path)}
        case ["files", "b", _, _, _]:
            return {"PUT": Target("upload_part", path=path)}
        case ["files", "b", _, _, "multipart", _, "complete"]:
            return {"POST": Target("cdn_complete", path=path)}
        case ["files", "b", _, _, "multipart", _, _]:
            return {"PUT": Target("cdn_part", path=path)}
    return {"PUT": Target("upload_put", path=path), "GET": Target("download", path=path)}
