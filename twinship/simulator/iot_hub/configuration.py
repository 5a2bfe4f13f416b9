"""Automatic deployments ("configurations"): their content, target condition and layers (ref 8).

A base deployment sets the whole desired properties of `$edgeAgent` and `$edgeHub`; a layered one only adds to
them, with dotted keys ("properties.desired.modules.x"). deployments.py applies them to devices.
"""

from __future__ import annotations

import base64
import copy
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Unsupported
from twinship.simulator.iot_hub.query.language import parse_condition, parse_query
from twinship.simulator.iot_hub.query.terms import Evaluate, constant
from twinship.simulator.manifest.modules_content import SYSTEM_MODULES, ManifestError, deployment

EVERYWHERE: Final = "*"
WHOLE: Final = "properties.desired"
HIGHEST_PRIORITY: Final = 2**31 - 1
_ID: Final = re.compile(r"[a-z0-9\-:+%_#*?!(),=@;$']{1,128}")

Section = Mapping[str, Any]


class ConfigurationInvalid(ValueError):
    """The content is not a deployment; the message is one line."""


@dataclass(frozen=True)
class Configuration:
    """A stored configuration. Times are seconds since the epoch; `generation` is new for each creation."""

    id: str
    content: Section = field(repr=False)  # modulesContent
    generation: str
    created: float
    target_condition: str = ""
    priority: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    updated: float = 0.0
    etag: str = ""

    @classmethod
    def from_body(cls, id: str, body: Section, now: float) -> Configuration:
        """A new configuration; raises ArgumentInvalid, ConfigurationInvalid, ExpressionError, Unsupported."""
        if not _ID.fullmatch(id):
            raise ArgumentInvalid(
                f"{id!r} is not a configuration id: lower-case letters, digits, -:+%_#*?!(),=@;$'"
            )
        content = _modules_content(body)
        check_content(content)
        return cls(id, content, secrets.token_hex(8), now).with_body(body, now)

    def with_body(self, body: Section, now: float) -> Configuration:
        """The configuration after a PUT, which cannot change the content. Raises the same as from_body."""
        if body.get("content") is not None and _modules_content(body) != self.content:
            raise ArgumentInvalid(
                f"the content of configuration {self.id!r} cannot change; create another one"
            )
        condition = _text(body.get("targetCondition"), "targetCondition")
        compile_target(condition)
        metrics = body.get("metrics") or {}
        queries = _texts(
            metrics.get("queries") if isinstance(metrics, Mapping) else metrics, "metrics.queries"
        )
        for query in queries.values():
            parse_query(query)
        return replace(
            self,
            target_condition=condition,
            priority=_priority(body.get("priority")),
            labels=_texts(body.get("labels"), "labels"),
            metrics=queries,
            updated=now,
            etag=base64.b64encode(secrets.token_bytes(4)).decode("ascii"),
        )

    @property
    def layered(self) -> bool:
        """Whether it is layered: it only adds to a base deployment."""
        return not any(WHOLE in self.content.get(name, {}) for name in SYSTEM_MODULES)

    @property
    def rank(self) -> tuple[int, float, str]:
        """The configuration with the higher rank wins: priority first, then creation time."""
        return self.priority, self.created, self.id

    @property
    def target_query(self) -> str:
        """The query for the targeted devices; empty when the condition targets none."""
        if not self.target_condition:
            return ""
        edge = "select deviceId from devices where capabilities.iotEdge = true"
        everywhere = self.target_condition == EVERYWHERE
        return edge if everywhere else f"{edge} and ({self.target_condition})"


def compile_target(condition: str) -> Evaluate:
    """Compile a target condition: `*` means every edge device, an empty text none. Raises ExpressionError."""
    if condition in ("", EVERYWHERE):
        return constant(condition == EVERYWHERE)
    return parse_condition(condition)


def check_content(content: Section) -> None:
    """Raise ConfigurationInvalid unless the content is a base deployment or a layered one."""
    for module, entry in content.items():
        _check_entry(module, entry)
    whole = [name for name in SYSTEM_MODULES if WHOLE in content.get(name, {})]
    if len(whole) == 1:
        raise ConfigurationInvalid(
            f"modulesContent sets all of {whole[0]!r}; a base deployment sets all of both system modules, "
            "a layered one of neither"
        )
    if whole:
        try:
            deployment(merged([content]))
        except ManifestError as error:
            raise ConfigurationInvalid(str(error)) from None


def in_force(targeting: Iterable[Configuration]) -> list[Configuration]:
    """Of the configurations that target a device: the winning base, then the layers of higher rank in order.

    Layers without a base are not applied, because there is no runtime that they could add to.
    """
    ranked = sorted(targeting, key=lambda each: each.rank)
    bases = [each for each in ranked if not each.layered]
    if not bases:
        return []
    return [bases[-1], *(each for each in ranked if each.layered and each.rank > bases[-1].rank)]


def merged(contents: Iterable[Section]) -> dict[str, Any]:
    """Merge several modulesContent, each over those before it, into one without dotted keys."""
    desired: dict[str, Any] = {}
    for content in contents:
        for module, entry in content.items():
            if WHOLE in entry:
                desired[module] = copy.deepcopy(entry[WHOLE])
            tree = desired.setdefault(module, {})
            for key, value in entry.items():
                if key != WHOLE:
                    _set(tree, key.removeprefix(f"{WHOLE}.").split("."), copy.deepcopy(value))
    return {module: {WHOLE: tree} for module, tree in desired.items()}


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *above, last = path
    for name in above:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    if value is None:
        tree.pop(last, None)
    else:
        tree[last] = value


def _check_entry(module: str, entry: object) -> None:
    if not isinstance(entry, dict):
        raise ConfigurationInvalid(f"{module!r} of modulesContent must be an object")
    for key, value in entry.items():
        if key == WHOLE and not isinstance(value, dict):
            raise ConfigurationInvalid(f"{key!r} of {module!r} must be an object")
        if key != WHOLE and not (key.startswith(f"{WHOLE}.") and all(key.split("."))):
            raise ConfigurationInvalid(
                f"{key!r} of {module!r} is not 'properties.desired' or a path below it"
            )


def _modules_content(body: Section) -> Section:
    content = body.get("content")
    if not isinstance(content, Mapping):
        raise ArgumentInvalid("the body has no 'content' object")
    for name in ("deviceContent", "moduleContent"):
        if content.get(name):
            raise Unsupported(f"configurations with {name}; edge deployments have modulesContent")
    modules = content.get("modulesContent")
    if not isinstance(modules, Mapping) or not modules:
        raise ArgumentInvalid("content has no 'modulesContent' object")
    return modules


def _priority(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= HIGHEST_PRIORITY:
        raise ArgumentInvalid(f"priority must be a whole number from 0 to {HIGHEST_PRIORITY}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str | None):
        raise ArgumentInvalid(f"{name} must be text")
    return (value or "").strip()


def _texts(value: object, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ArgumentInvalid(f"{name} must be an object of texts")
    return dict(value)
