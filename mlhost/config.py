"""Every setting with its type, unit and sentence; a value comes from defaults < file < environment < flags.

The dataclasses are the only table of settings: the commented `mlhost.toml`, the variables, the flags and the
checks are made from it. Nothing here reads `os.environ` or makes a folder: whoever uses a value does.
"""

# ruff: noqa: RUF009  (`setting` is `dataclasses.field` with a sentence)

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from mlhost.errors import Invalid

FILE_NAME = "mlhost.toml"
PREFIX = "MLHOST_"
_LONGEST_SECONDS = 10 * 365 * 24 * 3600  # ten years: also keeps infinity out

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
Size = Annotated[int, Meta(ge=1, le=2**63 - 1)]
SizeOrNone = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # the top is what setrlimit takes
Seconds = Annotated[float, Meta(gt=0, le=_LONGEST_SECONDS)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=_LONGEST_SECONDS)]
WholeSeconds = Annotated[int, Meta(ge=1, le=_LONGEST_SECONDS)]
Text = Annotated[str, Meta(min_length=1)]
Texts = tuple[Text, ...]
Profile = Literal["isolated", "embedded"]
Placement = Literal["process", "interpreter", "inline"]
# By which an identity provider signs: with a key that only it has. There is no "none" and no HS256.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]

T = TypeVar("T")


def setting(default: T, sentence: str) -> T:
    """A dataclass field that carries its sentence; typed as its default, so that mypy compares the two."""
    return field(default=default, metadata={"sentence": sentence})


@dataclass(frozen=True, slots=True)
class Server:
    """The socket, and how long a connection may take."""

    host: Text = setting("127.0.0.1", "Address to listen on; 0.0.0.0 is every IPv4 address of this machine.")
    port: Annotated[int, Meta(ge=0, le=65535)] = setting(12800, "Port to listen on; 0 takes any free one.")
    data: str = setting("", "Folder of the store; empty means the user's data folder of this platform.")
    tls_cert: str = setting("", "File of the certificate and its chain (PEM); with it the server speaks only TLS.")
    tls_key: str = setting("", "File of the certificate's private key (PEM); empty if it is in the same file.")
    insecure_http: bool = setting(
        False, "Listen without TLS where other machines can read along: behind a proxy that speaks TLS, say."
    )
    allowed_hosts: Texts = setting(
        (), 'Names clients may call this server by, beside what it listens on; "*" is any, which lets web pages in.'
    )
    origins: Texts = setting((), "Origins whose web pages may ask this server (CORS), such as https://example.org.")
    max_body_bytes: Size = setting(536_870_912, "Largest request body in bytes (512 MiB).")
    header_seconds: Seconds = setting(10.0, "Seconds a client has to send the header of a request.")
    body_seconds: Seconds = setting(30.0, "Longest silence in seconds while the body of a request is read.")
    keepalive_seconds: Seconds = setting(75.0, "Seconds an idle connection is kept open for a next request.")
    drain_seconds: Seconds = setting(30.0, "Seconds that running requests get to finish after SIGTERM.")


@dataclass(frozen=True, slots=True)
class Auth:
    """How long tokens live, and which groups have which role."""

    access_seconds: WholeSeconds = setting(3600, "Seconds an access token is good for (1 hour).")
    refresh_idle_seconds: WholeSeconds = setting(
        1_209_600, "Seconds after which an unused refresh token ends (14 days)."
    )
    refresh_max_seconds: WholeSeconds = setting(
        7_776_000, "Seconds after which one must sign in again, refreshed or not (90 days)."
    )
    owner_groups: Texts = setting((), "Groups whose members are Owners.")
    contributor_groups: Texts = setting((), "Groups whose members are Contributors.")
    reader_groups: Texts = setting((), "Groups whose members are Readers.")
    keep_admin: bool = setting(
        False, "Let the local user admin sign in also where users are those of a directory or an identity provider."
    )


@dataclass(frozen=True, slots=True)
class Ldap:
    """Sign-in with the names and passwords of an LDAP directory, Active Directory among them; needs mlhost[ldap]."""

    url: str = setting("", "Address of the LDAP directory, such as ldaps://ldap.example.org; empty: there is none.")
    start_tls: bool = setting(True, "Turn a connection to an ldap:// address into one with TLS before anything else.")
    insecure_plain: bool = setting(
        False, "Without TLS, let passwords go over a network where others can read along: not only to this machine."
    )
    ca_file: str = setting(
        "", "File of the authorities (PEM) that sign the directory's certificate; empty: those this machine trusts."
    )
    query_user: str = setting("", "Name (DN) to search the directory as; empty: anonymously.")
    query_password_file: str = setting(
        "", "File that holds the password of ldap.query_user, for the server's eyes only."
    )
    search_base: str = setting("", "Where in the directory users are, such as ou=people,dc=example,dc=org.")
    search_filter: Text = setting(
        "(uid={user})",
        "Filter that finds a user; {user} is the name they sign in with. Active Directory: (sAMAccountName={user}).",
    )
    user_attribute: Text = setting(
        "uid", "Attribute that holds the name a user has here, unique and for ever. Active Directory: sAMAccountName."
    )
    group_base: str = setting("", "Where in the directory the groups are that count; empty: anywhere.")
    group_filter: str = setting(
        "",
        "Filter that finds a user's groups, such as (member={dn}) or (memberUid={user}); empty: memberOf names them.",
    )
    timeout_seconds: WholeSeconds = setting(10, "Seconds that the directory has to answer while a user signs in.")
    look_up_seconds: Seconds = setting(
        3600.0, "Seconds after which users who hold tokens are looked up again, with their groups (1 hour)."
    )


@dataclass(frozen=True, slots=True)
class Oidc:
    """Sign-in with an OpenID Connect provider, Azure AD (Entra ID) among them; not beside an LDAP directory."""

    issuer: str = setting(
        "",
        "Address of the provider, as its tokens spell it in iss; empty: there is none."
        " Azure AD: https://login.microsoftonline.com/TENANT/v2.0.",
    )
    client_id: str = setting("", "Name under which the provider knows this server.")
    audience: str = setting("", "What the aud of a bearer token must name; empty: oidc.client_id.")
    client_secret_file: str = setting(
        "", "File that holds the client secret, for the server's eyes only; empty: the provider asks for none."
    )
    redirect_uri: str = setting(
        "",
        "Address of this server's /login/oidc/callback as the provider knows it; empty: as the browser spelled it.",
    )
    scopes: Texts = setting(("openid", "profile"), "Scopes to ask for when a user signs in with a browser.")
    algorithms: tuple[Algorithm, ...] = setting(
        ("RS256", "ES256"), "Algorithms that tokens may be signed by: RS256 to RS512, PS256 to PS512, ES256 to ES512."
    )
    user_claims: Texts = setting(
        ("upn", "preferred_username", "sub"), "Claims that may hold a user's name; the first one that a token has does."
    )
    groups_claim: Text = setting("groups", "Claim that holds a user's groups; of Azure AD's app roles: roles.")
    ca_file: str = setting(
        "", "File of the authorities (PEM) that sign the provider's certificate; empty: those this machine trusts."
    )
    timeout_seconds: Seconds = setting(10.0, "Seconds that the provider has for each answer.")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where user code runs, and what workers find when they start."""

    profile: Profile = setting(
        "isolated",
        "isolated: each session and service in a process of its own; embedded: all in the server's, for trusted code.",
    )
    allowed_placements: tuple[Placement, ...] = setting(
        ("process",),
        "Placements one may ask for beside the profile's own: process; interpreter and inline only for trusted code.",
    )
    python: str = setting("", "Path of the Python that worker processes run; empty means the server's own.")
    preload: Texts = setting(
        (
            "numpy",
            "pandas",
            "scipy.sparse",
            "sklearn.datasets",
            "sklearn.ensemble",
            "sklearn.linear_model",
            "sklearn.model_selection",
            "sklearn.neighbors",
            "sklearn.pipeline",
            "sklearn.preprocessing",
            "sklearn.svm",
        ),
        "Modules the template process imports before it forks workers; missing ones are skipped.",
    )
    accept_1d_samples: bool = setting(
        True,
        "Let scikit-learn's prediction methods take a list of n_features_in_ numbers as one sample, as until 0.18.",
    )
    threads: Count = setting(1, "BLAS and OpenMP threads per worker.")
    environment: Texts = setting((), "Names of further environment variables that workers may see.")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker and one call may use."""

    memory_bytes: SizeOrNone = setting(
        4_294_967_296, "Memory each process of a worker may use in bytes (4 GiB); 0 = no limit."
    )
    execute_seconds: Seconds = setting(3600.0, "Longest run of one execute call in seconds (1 hour).")
    score_seconds: Seconds = setting(60.0, "Longest run of one service call in seconds.")
    cpu_seconds: SecondsOrNone = setting(
        0.0, "Processor time in seconds one call may use, with all processes it starts (Linux); 0 = no limit."
    )
    open_files: Annotated[int, Meta(ge=64, le=1_000_000)] = setting(
        1024, "Files, sockets and pipes each process of a worker may have open."
    )
    file_bytes: SizeOrNone = setting(10_737_418_240, "Largest file a worker may write in bytes (10 GiB); 0 = no limit.")
    processes: CountOrNone = setting(
        64, "Processes a worker's code may have at once, ended ones it has not waited for included (Linux); 0 = any."
    )
    output_bytes: Size = setting(10_485_760, "Console output kept of one run in bytes (10 MiB).")


@dataclass(frozen=True, slots=True)
class Sessions:
    """Interactive sessions."""

    max: Count = setting(60, "Sessions that may be open at once.")
    max_per_user: Count = setting(20, "Sessions one user may have open at once.")
    idle_seconds: Seconds = setting(
        1800.0, "Seconds without a request after which a session that runs nothing is closed (30 minutes)."
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """The reserve of started workers, and the warm workers of each service version."""

    initial: CountOrNone = setting(2, "Workers kept started ahead of need, for new sessions and cold services.")
    max: Count = setting(80, "Workers of all sessions and services together, at most.")
    workers: Count = setting(
        2, "Warm workers per service version that has no pool of its own, at most; one more while a batch holds them."
    )
    queue: CountOrNone = setting(1000, "Calls that may wait per service version; more are refused as busy.")
    retire_seconds: Seconds = setting(600.0, "Seconds without a call after which a warm worker ends (10 minutes).")
    max_calls: CountOrNone = setting(0, "Calls after which a warm worker is replaced by a new one; 0 = never.")
    max_growth_bytes: SizeOrNone = setting(
        536_870_912, "Growth in bytes after which a warm worker is replaced (512 MiB); 0 = any."
    )


@dataclass(frozen=True, slots=True)
class Batches:
    """Batch executions of services."""

    max_parallel: Count = setting(
        100, "Records of one batch that may run at once, at most; pool.workers bounds those of one service version."
    )
    max_records: Count = setting(1_000_000, "Records one batch may have.")
    max_open_per_user: Count = setting(20, "Batches one user may have unfinished at once.")
    keep_seconds: Seconds = setting(2_592_000.0, "Seconds after which a finished batch is deleted (30 days).")


@dataclass(frozen=True, slots=True)
class Logs:
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        "info", "Lowest severity that is logged: debug, info, warning, error or critical."
    )
    format: Literal["auto", "text", "json"] = setting(
        "auto", "Form of a log line: text, json, or auto for text on a terminal and json elsewhere."
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """The record of who did what: `audit.jsonl` in the data folder."""

    enabled: bool = setting(True, "Record changes, sign-ins and refusals in audit.jsonl in the data folder.")
    file_bytes: Annotated[int, Meta(ge=10_000, le=2**63 - 1)] = setting(
        10_485_760, "Size in bytes at which audit.jsonl is put aside as audit.1.jsonl and a new one begun (10 MiB)."
    )
    files: Annotated[int, Meta(ge=1, le=1000)] = setting(10, "Files that are kept put aside; the oldest goes.")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, a section a field."""

    server: Server = field(default_factory=Server)
    auth: Auth = field(default_factory=Auth)
    ldap: Ldap = field(default_factory=Ldap)
    oidc: Oidc = field(default_factory=Oidc)
    runtime: Runtime = field(default_factory=Runtime)
    limits: Limits = field(default_factory=Limits)
    sessions: Sessions = field(default_factory=Sessions)
    pool: Pool = field(default_factory=Pool)
    batches: Batches = field(default_factory=Batches)
    logs: Logs = field(default_factory=Logs)
    audit: Audit = field(default_factory=Audit)

    @property
    def has_directory(self) -> bool:
        """Whether users come from elsewhere: then the local admin does not sign in (contract section 8)."""
        return bool(self.ldap.url or self.oidc.issuer)

    @property
    def shuts_admin_out(self) -> bool:
        """Whether the local admin is kept from signing in."""
        return self.has_directory and not self.auth.keep_admin


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    section: str
    name: str
    kind: Any  # a type, as msgspec.convert takes it
    default: object
    sentence: str

    @property
    def key(self) -> str:
        """The dotted name: `server.port`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it: `MLHOST_SERVER_PORT`."""
        return f"{PREFIX}{self.section}_{self.name}".upper()

    @property
    def flag(self) -> str:
        """How a command that offers it as a flag spells it: `--port`."""
        return "--" + self.name.replace("_", "-")


def _settings() -> Iterator[Setting]:
    for section, record in SECTIONS.items():
        kinds = get_type_hints(record, include_extras=True)
        for row in fields(record):
            yield Setting(section, row.name, kinds[row.name], row.default, row.metadata["sentence"])


SECTIONS: dict[str, Any] = get_type_hints(Config)
SETTINGS: dict[str, Setting] = {row.key: row for row in _settings()}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and for each dotted key where its value came from."""

    config: Config
    origins: Mapping[str, str]

    def value(self, key: str) -> object:
        """The value of a dotted key; KeyError if there is no such setting."""
        row = SETTINGS[key]
        return getattr(getattr(self.config, row.section), row.name)


class Given(NamedTuple):
    """A value as written, not yet checked; text from a shell may stand for a number or a list."""

    key: str
    value: object
    origin: str
    from_shell: bool


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """The settings in force; Invalid if a key is unknown or a value does not fit, even an overridden one.

    Without `file` an `mlhost.toml` in the current directory is read if there is one. `flags` are keyed by
    dotted key; None means not given.
    """
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    origins = dict.fromkeys(SETTINGS, "default")
    for given in chain(_from_file(file), _from_environment(environ), _from_flags(flags)):
        row = SETTINGS.get(given.key)
        if row is None:
            raise _unknown(given.key, given.origin)
        values[row.section][row.name] = _checked(row, given)
        origins[row.key] = given.origin
    config = Config(**{section: record(**values[section]) for section, record in SECTIONS.items()})
    return Loaded(config, origins)


def template() -> str:
    """The text of `config/mlhost.toml`: every setting with its sentence, commented out at its default."""
    return "\n".join([_TEMPLATE_HEAD, *(_template_section(section) for section in SECTIONS)])


def toml_value(value: object) -> str:
    """A setting's value as TOML; strings are written as in JSON, which TOML reads the same."""
    return json.dumps(value, ensure_ascii=False)


def _from_file(file: Path | None) -> Iterator[Given]:
    path = file or Path(FILE_NAME)
    if file is None and not path.is_file():
        return
    origin = f"file {path}"
    for section, table in _read(path).items():
        if section not in SECTIONS:
            raise _unknown(section, origin)
        if not isinstance(table, dict):
            raise Invalid(f"{section}: a section, to be written [{section}] ({origin})", field=section, origin=origin)
        for name, value in table.items():
            yield Given(f"{section}.{name}", value, origin, from_shell=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Invalid(f"file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise Invalid(f"file {path} is not TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    for variable, text in environ.items():
        section, _, name = variable.removeprefix(PREFIX).lower().partition("_")
        if variable.startswith(PREFIX) and section in SECTIONS and name:
            yield Given(f"{section}.{name}", text, variable, from_shell=True)


def _from_flags(flags: Mapping[str, object]) -> Iterator[Given]:
    for key, value in flags.items():
        if value is not None:
            origin = SETTINGS[key].flag if key in SETTINGS else "flags"
            yield Given(key, value, origin, from_shell=True)


def _checked(row: Setting, given: Given) -> object:
    value = given.value
    if given.from_shell and isinstance(value, str) and isinstance(row.default, tuple):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, row.kind, strict=not given.from_shell)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"{row.key} = {given.value!r} ({given.origin}): {error}. {row.sentence}",
            field=row.key,
            origin=given.origin,
        ) from error


def _unknown(key: str, origin: str) -> Invalid:
    name = key.rpartition(".")[2]
    elsewhere = [known for known in SETTINGS if known.endswith(f".{name}")]
    likely = elsewhere or difflib.get_close_matches(key, [*SECTIONS, *SETTINGS], n=1)
    hint = f"; did you mean {likely[0]}?" if likely else ""
    return Invalid(f"{key}: no such setting ({origin}){hint}", field=key, origin=origin)


_TEMPLATE_HEAD = f"""\
# Settings of mlhost. Each is commented out at its default: take off the "#" and change the value.
#
# A flag (--port) counts before the environment ({PREFIX}<SECTION>_<NAME>, such as {PREFIX}SERVER_PORT; commas
# separate the items of a list), the environment before this file, and this file before the defaults. The file
# is the one named by --config, else {FILE_NAME} in the current directory.
# `mlhost config show --origin` tells where each value came from.
"""


def _template_section(section: str) -> str:
    rows = [row for row in SETTINGS.values() if row.section == section]
    return f"[{section}]\n" + "".join(f"# {row.sentence}\n#{row.name} = {toml_value(row.default)}\n" for row in rows)
