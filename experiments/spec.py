"""What a suite, its rows and a profile say, and the typed config that they resolve to.

Layers, later ones win: the profile's config, the suite's `base`, the row's `changes`, `-o key=value`, the seed. What a
suite or a row says `at` the profile that is run comes right after its base or changes.
A row that `extends` another one starts from what that one is made of, and so on.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from experiments import ablation
from experiments.environment import content_digest
from experiments.layers import Layer, build, merge, parse_override
from experiments.suite import Profile, Row, SpecFile, Suite
from experiments.wording import describe, did_you_mean
from experiments.yaml_io import load_mapping
from rasa.config.run import Config
from rasa.errors import ResourceError, SpecError
from rasa.weights import start

FILE = re.compile(r"(?P<file>.*\.ya?ml)(?:/(?P<row>[^/]*))?")
ROOT, TARGET_ROOT = "data.root", "data.target.root"
_S = TypeVar("_S", bound=SpecFile)


def suite_names() -> list[str]:
    """Names of the built-in suites."""
    return _names(files("experiments") / "specs")


def profile_names() -> list[str]:
    """Names of the built-in profiles."""
    return _names(files("experiments") / "specs" / "profiles")


def load_suite(name_or_path: str, ablated: bool = True) -> Suite:
    """A built-in suite by name, or the user's own file; `ablated` as for `read_spec`. Raises SpecError."""
    folder = files("experiments") / "specs"
    return load_named(Suite, "suite", name_or_path, suite_names(), lambda name: (folder / name, name), ablated=ablated)


def load_profile(name: str) -> Profile:
    """A built-in profile by name, or the user's own file. Raises SpecError."""
    folder = files("experiments") / "specs" / "profiles"
    return load_named(Profile, "profile", name, profile_names(), lambda name: (folder / name, f"profiles/{name}"))


def load_named(
    model: type[_S],
    field: str,
    name_or_path: str,
    built_in: Sequence[str],
    file_of: Callable[[str], tuple[Traversable, str]],
    noun: str = "",
    ablated: bool = True,
) -> _S:
    """A built-in spec by name, or the user's own file, whose `field` names it. Raises SpecError.

    `file_of` gives a built-in one's file, and how it is shown, by the file's name. A file of the user's may not take a
    built-in name for something else.
    """
    if not FILE.fullmatch(name_or_path):
        if name_or_path not in built_in:
            hint = did_you_mean(name_or_path, built_in)
            raise SpecError(f"no {noun or field} {name_or_path!r} (a file ends in .yaml){hint}")
        file, shown = file_of(f"{name_or_path}.yaml")
        return read_spec(model, file, shown, ablated)
    spec = read_spec(model, Path(name_or_path), name_or_path, ablated)
    own = getattr(spec, field)
    if (
        own in built_in
        and spec.model_dump() != load_named(model, field, own, built_in, file_of, ablated=ablated).model_dump()
    ):
        raise SpecError(f"{name_or_path}: {field}: {own} is a built-in {field}; give yours another name")
    return spec


def resolve(suite: Suite, row: Row | str, profile_name: str, overrides: Sequence[str], seed: int) -> Config:
    """The config of one run. Raises SpecError, one line that names the file and the field."""
    row = suite.row(row) if isinstance(row, str) else row
    profile = load_profile(profile_name)
    layers = [Layer(profile.file, profile.config), *_layers_of(chain(suite, row), profile.profile)]
    return build(layers, [parse_override(text) for text in overrides], seed)


def resolve_without_data(
    suite: Suite, row: Row | str, profile: str, overrides: Sequence[str]
) -> tuple[Config, tuple[str, ...]]:
    """As `resolve` with seed 0, for looking at, and the fields that are the user's to give and were not given.

    A profile that leaves the data to the user is no fault where nothing is read. Raises SpecError for any other fault.
    """
    try:
        return resolve(suite, row, profile, overrides, seed=0), ()
    except SpecError as fault:
        for missing in ((ROOT,), (TARGET_ROOT,), (ROOT, TARGET_ROOT)):
            with suppress(SpecError):
                config = resolve(suite, row, profile, [*(f"{field}=." for field in missing), *overrides], seed=0)
                return _rootless(config, missing), missing
        raise fault from None


def _rootless(config: Config, missing: Sequence[str]) -> Config:
    """The config without the folders that were put in so that it resolves."""
    data, target = config.data, config.data.target
    if ROOT in missing:
        data = data.model_copy(update={"root": None})
    if TARGET_ROOT in missing and target is not None:
        data = data.model_copy(update={"target": target.model_copy(update={"root": None})})
    return config.model_copy(update={"data": data})


def row_digest(config: Config) -> str:
    """12 hex digits that are equal for runs that differ in nothing but the seed: what makes rows comparable."""
    return seedless_digest(identity_of(config))


def seedless_digest(identity: Mapping[str, Any]) -> str:
    """12 hex digits of an identity without its seed."""
    return short_digest({name: value for name, value in identity.items() if name != "seed"})


def identity_of(config: Config) -> dict[str, Any]:
    """The config's identity, in which a local vocabulary or generator is named by its content and not by its path."""
    identity = config.identity()
    for section, key in (("data", "tokenizer"), ("objectives", "masked_lm")):
        if (path := local_path(identity[section][key])) is not None:
            try:
                identity[section][key] = f"sha256:{content_digest(path)}"
            except OSError as error:
                raise ResourceError(f"{section}.{key}: {path}: {error.strerror}; give one that can be read") from error
    return identity


def local_path(name: str) -> Path | None:
    """The absolute path of a vocabulary or generator that lies on this machine; None for a mere name."""
    if name == start.NAME:
        return start.VOCABULARY
    path = Path(name).expanduser().absolute()
    return path if name != "captions" and path.exists() else None


def short_digest(value: Any) -> str:
    """12 hex digits of the SHA-256 of `value` as canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def chain(suite: Suite, row: Row, ablated: bool = True) -> list[tuple[Suite, Row]]:
    """What a row is made of: the row that extends none, those that extend it one after another, and last the row.

    Raises SpecError, also for rows that extend each other in a circle.
    """
    links = [(suite, row)]
    while links[-1][1].extends is not None:
        links.append(_extended(*links[-1], ablated))
        seen = [(origin.file, each.name) for origin, each in links]
        if seen[-1] in seen[:-1]:
            names = " -> ".join(f"{origin.suite}/{each.name}" for origin, each in links[seen.index(seen[-1]) :])
            raise SpecError(f"{links[-1][0].file}, row {seen[-1][1]}: extends goes in a circle: {names}")
    return links[::-1]


def _layers_of(links: Iterable[tuple[Suite, Row]], profile: str) -> Iterator[Layer]:
    below = None
    for suite, row in links:
        # Within one suite the base is under the extended row already; again on top it would undo that row.
        if below is None or (suite.file, suite.suite) != (below.file, below.suite):
            yield from _with_at(f"{suite.file}, base", suite.base, suite.at, profile)
        whole = row.other_weights == "off"
        yield from _with_at(row._source or f"{suite.file}, row {row.name}", row.changes, row.at, profile, whole)
        below = suite


def _with_at(
    source: str, values: dict[str, Any], at: dict[str, dict[str, Any]], profile: str, whole: bool = True
) -> list[Layer]:
    """The layer of `values`, and on it what is set at this profile."""
    layers = [Layer(source, values, whole)]
    return [*layers, Layer(f"{source}, at.{profile}", at[profile], whole)] if profile in at else layers


def _extended(suite: Suite, row: Row, ablated: bool) -> tuple[Suite, Row]:
    name, slash, start_name = (row.extends or "").rpartition("/")
    if not slash:
        raise SpecError(f"{suite.file}, row {row.name}: extends: write suite/row ({row.extends})")
    origin = suite if name == suite.suite else load_suite(name, ablated)
    return origin, origin.row(start_name)


def _names(folder: Traversable) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_spec(model: type[_S], file: Traversable, shown: str, ablated: bool = True) -> _S:
    """The file as `model`. Raises SpecError with one line that names it as `shown`, the field and the remedy.

    `ablated`: with the rows that a suite's `ablate` stands for.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{shown}: cannot be read ({reason})") from error
    return _parsed(model, text, shown, ablated)


@cache
def _parsed(model: type[_S], text: str, shown: str, ablated: bool) -> _S:
    """The text as `model`; a plan asks for the same profile and suites again and again."""
    spec = _checked(model, values := load_mapping(text, shown), shown)
    if ablated and isinstance(spec, Suite) and spec.ablate is not None:
        return _checked(model, values | {"rows": [*values.get("rows", ()), *_ablation(spec)]}, shown)
    return spec


def _checked(model: type[_S], values: Mapping[str, Any], shown: str) -> _S:
    try:
        spec = model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise SpecError(f"{shown}: " + "; ".join(fault.text for fault in describe(error, model))) from error
    spec._file = shown
    return spec


def _ablation(suite: Suite) -> list[dict[str, Any]]:
    """The rows that `ablate` stands for. Raises SpecError."""
    where, target = f"{suite.file}: ablate", suite.ablate or ""
    own, _, name = target.rpartition("/")
    # A row of the suite that is the whole of it is what the others are compared with; else there will be one.
    there = suite.row(name) if own == suite.suite else suite.unchanged(target)
    whole = there or Row(name=name, extends=target)
    # What another suite's own `ablate` stands for is not asked for: two suites could ablate each other.
    links = chain(suite, whole, ablated=False)
    profiles = {profile for origin, row in links for profile in (*origin.at, *row.at)}
    per_profile = [_objectives(links, profile) for profile in ("", *sorted(profiles))]
    if any(other != per_profile[0] for other in per_profile):
        raise SpecError(f"{where}: {target} has other losses at some profiles; ablate a row that has the same at all")
    weights, generator = per_profile[0]
    if len(weights) < 2:
        found = "one loss alone" if weights else "no losses of its own"
        raise SpecError(f"{where}: {target} has {found}; ablate a row that states two or more")
    made = ablation.rows(suite.suite, whole.name, weights, generator, len(suite.labels))
    return list(made) if there else [ablation.whole(name, target, len(suite.labels)), *made]


def _objectives(links: Sequence[tuple[Suite, Row]], profile: str) -> tuple[dict[str, float], str | None]:
    """The loss weights and the generator that rows state, whatever the profile's config is."""
    merged: dict[str, Any] = {}
    for layer in _layers_of(links, profile):
        merged = merge(merged, layer.values, layer.whole)
    found = merged.get("objectives", {})
    return found.get("weights", {}), found.get("generator")
