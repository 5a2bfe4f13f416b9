"""Checks placeholders, images and registry credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.document import AGENT, Document, ModuleEntry, table
from twinship.fleet.doctor.project import Project
from twinship.simulator.manifest import manifest, placeholders
from twinship.simulator.manifest.modules_content import ManifestError, names_a_user, registry_credentials

PLATFORMS = ("amd64", "arm64v8", "arm32v7")
_REFERENCE = re.compile(
    r"(?:(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d+)?)/)??"
    r"(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_PUBLIC = {"mcr.microsoft.com", "docker.io", "index.docker.io", "registry-1.docker.io", "ghcr.io"}
_PUBLIC |= {"quay.io", "gcr.io", "public.ecr.aws", "nvcr.io", "registry.k8s.io"}
_LOCAL = re.compile(r"(?:localhost|127\.[\d.]+)(?::\d+)?")
_RUNTIME = re.compile(r"/azureiotedge-(agent|hub):(\d+\.\d+)")
_SUPPORTED = ("1.5", "1.6")
#: How variables are written in upper case; other text with a '$' may be meant for the container's shell.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_SHELL_KEYS = ("Cmd", "Entrypoint", "Healthcheck")


@dataclass(frozen=True)
class Image:
    """An expanded image name. `tag` may be empty; `valid` is False if Docker would refuse the name."""

    name: str
    host: str
    path: str
    tag: str
    pinned: bool
    valid: bool

    @property
    def platform(self) -> str:
        """The platform at the end of the tag, or empty."""
        return next((each for each in PLATFORMS if self.tag.endswith(each)), "")

    @property
    def repository(self) -> str:
        """The last part of the path: the name of the module's folder for images of a project."""
        return self.path.rpartition("/")[2]


def image(name: str) -> Image:
    """Parse the name of an image; variables that are not set count as valid text."""
    plain = re.sub(r"\$\{\w+\}|\$\w+", "x.unset", name)
    match = _REFERENCE.fullmatch(plain)
    before, slash, rest = name.partition("/")
    has_host = bool(slash) and (any(each in before for each in ".:$") or before == "localhost")
    path, _, tag = (rest if has_host else name).partition("@")[0].partition(":")
    return Image(name, before if has_host else "", path, tag, "@" in name, match is not None)


def expanded_image(module: ModuleEntry, project: Project) -> Image | None:
    """The image of a module, None if there is none, or if its placeholder cannot be expanded."""
    text = module.settings.get("image")
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        return image(str(placeholders.with_images(text, module_files(project), project.environment)))
    except LookupError:
        return None


def module_files(project: Project) -> dict[str, placeholders.ModuleJson]:
    """The readable module.json files by folder."""
    found = {}
    for name, text in project.modules.items():
        try:
            found[name] = manifest.module_json(text, project.environment)
        except ManifestError:
            continue
    return found


def check(document: Document, project: Project) -> Iterator[Finding]:
    """All findings about images and credentials."""
    platforms: dict[str, str] = {}
    versions: dict[str, str] = {}
    for module in document.modules(system=True):
        yield from _placeholder(document, module, project)
        found = expanded_image(module, project)
        if found is None:
            continue
        yield from _image(document, module, found)
        if found.platform:
            platforms.setdefault(found.platform, module.name)
        if runtime := _RUNTIME.search(found.name):
            versions[module.name] = runtime[2]
    if len(platforms) > 1:
        cause = ", ".join(f"{name} is for {platform}" for platform, name in platforms.items())
        yield document.found("TW025", cause, AGENT, "modules")
    yield from _runtime(document, versions)
    yield from _credentials(document, project)


def _placeholder(document: Document, module: ModuleEntry, project: Project) -> Iterator[Finding]:
    text = module.settings.get("image")
    place = (AGENT, *module.path, "settings", "image")
    if not isinstance(text, str) or not text.strip():
        yield document.found("TW020", f"module {module.name!r} has no image", *place)
    elif "${MODULEDIR" in text:
        yield document.found("TW019", f"{text} is expanded by iotedgedev only", *place)
    else:
        try:
            placeholders.with_images(text, module_files(project), project.environment)
        except LookupError as error:
            yield document.found("TW018", str(error.args[0]), *place)


def _image(document: Document, module: ModuleEntry, found: Image) -> Iterator[Finding]:
    place = (AGENT, *module.path, "settings", "image")
    if "<" in found.name and "$" in str(module.settings.get("image")):
        return  # the value of a variable, which has a finding of its own
    if not found.valid:
        yield document.found("TW023", f"{found.name!r} is not the name of an image", *place)
    elif not found.tag and not found.pinned and "$" not in found.path.rpartition("/")[2]:
        yield document.found("TW021", f"{found.name!r} has no tag", *place)
    elif found.tag == "latest" and not found.pinned:
        yield document.found("TW022", f"{found.name!r} has the tag latest", *place)


def _runtime(document: Document, versions: Mapping[str, str]) -> Iterator[Finding]:
    for name, version in versions.items():
        if version not in _SUPPORTED:
            cause = f"{name} {version} is not supported any more"
            yield document.found("TW028", cause, AGENT, "systemModules", name)
    if len(set(versions.values())) > 1:
        cause = "different versions: " + ", ".join(f"{name} {each}" for name, each in versions.items())
        yield document.found("TW028", cause, AGENT, "systemModules")


def _credentials(document: Document, project: Project) -> Iterator[Finding]:
    place = (AGENT, "runtime", "settings", "registryCredentials")
    agent = document.desired.get(AGENT, {})
    addresses = set()
    for name, entry in registry_credentials(dict(agent)).items():
        if not names_a_user(entry):
            continue
        address = str(entry.get("address") or "")
        addresses.add(address.strip("/").lower())
        missing = [key for key in ("password", "address") if not entry.get(key)]
        if missing:
            yield document.found("TW027", f"{name!r} has no {' and no '.join(missing)}", *place, name)
        elif "://" in address:
            yield document.found("TW027", f"the address of {name!r} begins with a scheme", *place, name)
    if not document.whole:
        return
    private: dict[str, ModuleEntry] = {}
    for module in document.modules(system=True):
        found = expanded_image(module, project)
        if found and found.host and "$" not in found.host:
            private.setdefault(found.host.lower(), module)
    for host, module in private.items():
        if host not in addresses | _PUBLIC and not _LOCAL.fullmatch(host):
            cause = f"{host} of module {module.name!r} is not among the registryCredentials"
            yield document.found("TW026", cause, AGENT, *module.path, "settings", "image")


# -- variables ----------------------------------------------------------------------------------------------


def unset(document: Document, project: Project) -> Iterator[tuple[str, Finding]]:
    """Each variable without a value, with its first place."""
    raw = document.text + "".join(project.modules.values())
    seen = set()
    for place, text in _expanded_texts(document, project):
        for name in placeholders.undefined(text):
            # A name that the files do not have is a part of a value, which may be a secret.
            written = f"${name}" in raw or f"${{{name}}}" in raw
            if written and name not in seen and _VARIABLE.fullmatch(name):
                seen.add(name)
                yield name, document.found("TW016", f"{name} is not set", AGENT, *place)


def unfilled(document: Document, project: Project, refused: Mapping[str, str]) -> Iterator[Finding]:
    """The variables that the manifest uses and that still have a placeholder; `refused`: name → why."""
    raw = document.text + "".join(project.modules.values())
    for name, why in refused.items():
        if re.search(rf"\$(?:{name}\b|\{{{name}\}})", raw):
            env = project.env
            line = env.line(name) if env else 0
            yield finding("TW017", env.name if env and line else "environment", line, why)


def _expanded_texts(document: Document, project: Project) -> Iterator[tuple[tuple[str, ...], str]]:
    for module in document.modules(system=True):
        if found := expanded_image(module, project):
            yield (*module.path, "settings", "image"), found.name
        for name, value in module.env.items():
            yield (*module.path, "env", name), value
        yield (*module.path, "settings", "createOptions"), _options_text(module.settings.get("createOptions"))
    credentials = registry_credentials(dict(document.desired.get(AGENT, {})))
    for name, entry in credentials.items():
        if names_a_user(entry):
            place = ("runtime", "settings", "registryCredentials", name)
            yield place, "\n".join(str(entry.get(key, "")) for key in ("username", "password", "address"))


def _options_text(options: Any) -> str:
    if isinstance(options, str):
        try:
            options = json.loads(options or "{}")
        except (ValueError, RecursionError):
            return ""
    return json.dumps({key: value for key, value in table(options).items() if key not in _SHELL_KEYS})
