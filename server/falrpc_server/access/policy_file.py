"""The policy file: TOML text to tenants and rules, or everything that is wrong with it. Pure."""

import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from falrpc_server.access import webhook_hosts
from falrpc_server.access.identity_patterns import IdentityPattern
from falrpc_server.access.rules import ANY_ENDPOINT, METHODS, UPLOADS, KeySource, Rule, Tenant
from falrpc_server.access.tables import Note, Table, shown, suggestion
from falrpc_server.fal_http import endpoint_patterns

__all__ = ["PolicyError", "read"]

PLACES_MAX = 1_000_000
PER_SECOND = (0.001, 1e6)
WEIGHT = (0.01, 1_000.0)
UPLOAD_BYTES_MAX = 2**40
LIFECYCLE_SECONDS_MAX = 100 * 365 * 86_400
PROBLEMS_MAX = 100
PATH_CHARACTERS_MAX = 4_096
RULES_MAX = 1_000

_TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FAL_KEY = re.compile(r"[0-9A-Fa-f-]{20,}:[^/]+|[^/:]{8,}:[^/]{16,}")
_RULE_HEADER = re.compile(r"\s*\[\[\s*rules\s*\]\]")
_TENANT_HEADER = re.compile(r"""\s*\[\s*tenants\s*\.\s*(["']?)([A-Za-z0-9._-]+)\1\s*\]""")

_Parsed = TypeVar("_Parsed")


class PolicyError(Exception):
    """The policy does not hold; `problems` has one sentence for each, naming the place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(text: str, path: str, fal_key_from: KeySource) -> tuple[list[Tenant], list[Rule]]:
    """Reads a policy. Raises PolicyError with all problems at once."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError([f"{path}: {str(error)[:200] or 'is nested too deeply'}"]) from None
    places = _Places(text, path, len(rules) if isinstance(rules := document.get("rules"), list) else 0)
    problems: list[str] = []

    def note(place: str, problem: str) -> None:
        problems.append(f"{places.line_of(place)}: {place}: {problem}")

    top = Table(document, "", note)
    tenants, names = _tenants(top, note, fal_key_from)
    found = _rules(top, note, places, names)
    top.finish()
    if problems:
        left_out = len(problems) - PROBLEMS_MAX
        more = [f"{path}: and {left_out} more problems"] if left_out > 0 else []
        raise PolicyError(problems[:PROBLEMS_MAX] + more)
    return tenants, found


# Tenants


def _tenants(top: Table, note: Note, fal_key_from: KeySource) -> tuple[list[Tenant], list[str]]:
    """The tenants that are right, and the names of all."""
    values = top.any("tenants")
    if not isinstance(values, dict) or not values:
        top.wrong("tenants", "is required: a table for each tenant, [tenants.NAME]")
        return [], []
    tenants = []
    for name, fields in values.items():
        place = f"tenants.{name if _TENANT_NAME.fullmatch(name) else shown(name)}"
        if not _TENANT_NAME.fullmatch(name):
            note(place, "must be named with at most 64 letters, digits, '_', '.' or '-'")
        tenants.append(_tenant(name, Table(fields, place, note), fal_key_from))
    return tenants, list(values)


def _tenant(name: str, table: Table, default_from: KeySource) -> Tenant:
    file = _key_file(table)
    source = table.choice("fal_key_from", ("server", "file", "caller"), is_secret=True)
    if file is not None and source in ("server", "caller"):
        table.wrong("fal_key_file", f'has no effect with fal_key_from = "{source}"')
    if source == "file" and not table.has("fal_key_file"):
        table.wrong("fal_key_file", 'is required for fal_key_from = "file"')
    burst = table.whole("burst", 1, PLACES_MAX)
    if burst is not None and not table.has("calls_per_second"):
        table.wrong("burst", "has no effect without calls_per_second")
    weight = table.number("weight", *WEIGHT)
    tenant = Tenant(
        name=name,
        fal_key_from=source or ("file" if file else default_from),
        fal_key_file=file or "",
        weight=1.0 if weight is None else weight,
        calls_in_flight_max=table.whole("calls_in_flight_max", 1, PLACES_MAX),
        streams_in_flight_max=table.whole("streams_in_flight_max", 1, PLACES_MAX),
        uploads_in_flight_max=table.whole("uploads_in_flight_max", 1, PLACES_MAX),
        calls_per_second=table.number("calls_per_second", *PER_SECOND),
        burst=burst,
        upload_bytes_max=table.whole("upload_bytes_max", 1, UPLOAD_BYTES_MAX),
    )
    table.finish()
    return tenant


def _key_file(table: Table) -> str | None:
    """The name of a file. It is never shown: somebody may have put the key itself there."""
    path = table.text("fal_key_file", is_secret=True)
    if path is None:
        return None
    if _FAL_KEY.fullmatch(path):
        table.wrong(
            "fal_key_file", "must name a file: this looks like the key itself, which belongs into one"
        )
    elif len(path) > PATH_CHARACTERS_MAX or not path.isprintable():
        table.wrong("fal_key_file", f"must be at most {PATH_CHARACTERS_MAX} printable characters")
    return path


# Rules


def _rules(top: Table, note: Note, places: "_Places", tenants: list[str]) -> list[Rule]:
    values = top.any("rules")
    if not isinstance(values, list) or not values:
        top.wrong("rules", "is required: without a rule, [[rules]], nobody may call anything")
        return []
    if len(values) > RULES_MAX:
        top.wrong("rules", f"must be at most {RULES_MAX}")
        return []
    rules: list[Rule] = []
    earlier = _Earlier()
    for number, fields in enumerate(values):
        place = f"rules[{number}]"
        table = Table(fields, place, note)
        if table.is_table:
            rule = _rule(table, f"{places.line_of(place)}: {place}", tenants)
            _note_dead_patterns(rule, place, note, earlier)
            earlier.add(rule.identities, place)
            rules.append(rule)
    return rules


def _rule(table: Table, place: str, tenants: list[str]) -> Rule:
    tenant = _required(table, "tenant", table.text("tenant"), "the name of a tenant")
    if tenant and tenant not in tenants:
        table.wrong("tenant", f"there is no tenant {shown(tenant)}{suggestion(tenant, tenants)}")
    rpcs = _rpcs(table)
    rule = Rule(
        place=place,
        identities=tuple(_identities(table)),
        tenant=tenant or "",
        rpcs=tuple(rpcs),
        endpoints=tuple(_endpoints(table, rpcs)),
        priority_max=table.choice("priority_max", ("normal", "low")) or "normal",
        store_io=table.boolean("store_io"),
        webhook_hosts=_webhook_hosts(table),
        lifecycle_seconds_max=table.whole("lifecycle_seconds_max", 1, LIFECYCLE_SECONDS_MAX),
        access_control=table.choice("access_control", ("allowed", "forbidden")) or "allowed",
    )
    table.finish()
    return rule


def _identities(table: Table) -> list[IdentityPattern]:
    texts = _required(table, "identities", table.texts("identities"), "a list of patterns of identities")
    if texts == [] and table.any("identities") == []:
        table.wrong("identities", 'must have at least one pattern; "**" is everyone')
    return _parsed(table, "identities", texts or [], IdentityPattern.parse)


def _rpcs(table: Table) -> list[str]:
    rpcs = []
    texts = _required(table, "rpcs", table.texts("rpcs"), f"a list of methods out of {', '.join(METHODS)}")
    for number, name in texts or []:
        if name in METHODS:
            rpcs.append(name)
        elif "*" in name:
            table.wrong(f"rpcs[{number}]", f"must name one method: {shown(name)} does not; list them all")
        else:
            problem = f"{shown(name)} is no method of FalService{suggestion(name, METHODS)}"
            table.wrong(f"rpcs[{number}]", problem)
    return rpcs


def _endpoints(table: Table, rpcs: list[str]) -> list[str]:
    texts = table.texts("endpoints")
    needing = [rpc for rpc in rpcs if rpc not in UPLOADS]
    if needing and table.any("endpoints") in (None, []):
        table.wrong("endpoints", f'is required for {needing[0]}; ["*"] is every endpoint')
    names = [one for _, one in texts or []]
    if ANY_ENDPOINT in names and len(names) > 1:
        table.wrong("endpoints", '"*" is every endpoint: it stands alone')

    def parse(text: str) -> str:
        if text != ANY_ENDPOINT:
            endpoint_patterns.check(text)
        return text

    return _parsed(table, "endpoints", texts or [], parse)


def _webhook_hosts(table: Table) -> tuple[str, ...] | None:
    texts = table.texts("webhook_hosts")
    if texts is None:
        return None
    hosts = _parsed(table, "webhook_hosts", texts, webhook_hosts.parse)
    for host in sorted({host for host in hosts if hosts.count(host) > 1}):
        table.wrong("webhook_hosts", f"{shown(host)} stands there twice")
    return tuple(hosts)


def _parsed(
    table: Table, key: str, texts: Iterable[tuple[int, str]], parse: Callable[[str], _Parsed]
) -> list[_Parsed]:
    parsed = []
    for number, text in texts:
        try:
            parsed.append(parse(text))
        except ValueError as error:
            table.wrong(f"{key}[{number}]", f"{error}: {shown(text)} is none" if text else str(error))
    return parsed


def _required(table: Table, key: str, value: Any, what: str) -> Any:
    if not table.has(key):
        table.wrong(key, f"is required: {what}")
    return value


def _note_dead_patterns(rule: Rule, place: str, note: Note, earlier: "_Earlier") -> None:
    """Notes patterns that never decide, because a rule that stands before admits all that they do."""
    dead = {}
    for pattern in rule.identities:
        if found := earlier.deciding(pattern):
            dead[pattern.text] = found
    if dead and len(dead) == len(rule.identities):
        others = " and ".join(dict.fromkeys(dead.values()))
        note(place, f"can never match: {others} before it decides for all of its identities")
        return
    for text, other in dead.items():
        note(f"{place}.identities", f"{shown(text)} can never match here: {other} before it decides")


class _Earlier:
    """The patterns of the rules that stand before one."""

    def __init__(self) -> None:
        self._same: dict[str, str] = {}
        self._wildcards: list[tuple[IdentityPattern, str]] = []

    def add(self, patterns: Iterable[IdentityPattern], place: str) -> None:
        """Adds a rule's."""
        for pattern in patterns:
            self._same.setdefault(pattern.text, place)
            if not pattern.is_literal:
                self._wildcards.append((pattern, place))

    def deciding(self, pattern: IdentityPattern) -> str | None:
        """The place of a rule that surely admits all that the pattern admits."""
        if place := self._same.get(pattern.text) or self._same.get("**"):
            return place
        if not pattern.is_literal:
            return None
        return next((place for other, place in self._wildcards if other.matches(pattern.text)), None)


class _Places:
    """In which lines the tables of the file begin, as far as their headers tell."""

    def __init__(self, text: str, path: str, rules: int) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        headers = []
        for number, line in enumerate(text.splitlines(), start=1):
            if _RULE_HEADER.match(line):
                headers.append(number)
            elif named := _TENANT_HEADER.match(line):
                self._lines[f"tenants.{named[2]}"] = number
        if len(headers) == rules:  # else some stand elsewhere, in a text for instance
            self._lines |= {f"rules[{index}]": number for index, number in enumerate(headers)}

    def line_of(self, place: str) -> str:
        """`path:line` of the table that a place is in; the path alone when it is not known."""
        parts = place.split(".")
        for length in range(len(parts), 0, -1):
            if line := self._lines.get(".".join(parts[:length])):
                return f"{self._path}:{line}"
        return self._path
