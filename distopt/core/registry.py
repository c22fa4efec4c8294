"""Registry: finds built-in objects, plugins and custom objects by name or config, and makes configs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from distopt.core.checks import as_config, shown
from distopt.core.custom_objects import find_object
from distopt.suggestions import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Registry",
    "by_name",
    "by_snake_case_name",
    "public_classes",
    "public_functions",
    "serialize_object",
    "snake_case",
]


class Registry:
    """Classes and functions of one kind by name: built-in ones, and plugins of an entry-point group.

    Args:
        kind: the kind, for messages ("loss function").
        known: the built-in objects by name, including aliases.
        group: the entry-point group of plugins ("distopt.aggregators"), or None.
        normalize: applied to names before they are looked up, e.g. ``str.lower``.
        refusal: the exception class that :meth:`get` raises for an object that is not a name, config or
            callable.
    """

    def __init__(
        self,
        kind: str,
        known: Mapping[str, Any] = MappingProxyType({}),
        *,
        group: str | None = None,
        normalize: Callable[[str], str] = str,
        refusal: type[Exception] = ValueError,
    ) -> None:
        self.kind = kind
        self.group = group
        self._normalize = normalize
        self._refusal = refusal
        self._known = {normalize(name): thing for name, thing in known.items()}

    @property
    def known(self) -> Mapping[str, Any]:
        """The built-in objects, and the plugins that were loaded, by name."""
        return MappingProxyType(self._known)

    def add(self, *classes: type) -> None:
        """Adds built-in classes whose modules import this registry, because their configs contain configs."""
        self._known |= {self._normalize(name): thing for name, thing in by_name(*classes).items()}

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self._known, *self._plugins()})

    def get(self, identifier: Any) -> Any:
        """Returns a callable or None unchanged, or the object of a name or config.

        Raises:
            ValueError: the name is unknown, or the config is malformed.
            Exception: ``refusal`` for anything else.
        """
        if isinstance(identifier, (str, Mapping)):
            return self.deserialize(identifier)
        if identifier is None or callable(identifier):
            return identifier
        raise self._refusal(f"Could not interpret {self.kind} identifier: {shown(identifier)}")

    def deserialize(self, config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Returns the object that ``config`` describes.

        Args:
            config: a result of :func:`serialize_object`: a dict, or the name of a function or class. A
                function is returned itself; a class is called without arguments.
            custom_objects: objects by name, which take precedence over all others.

        Raises:
            TypeError: the arguments in the config are not a dict, or not those of the class.
            ValueError: the config is malformed, or the name is unknown.
        """
        if isinstance(config, str):
            found = self._find(config, custom_objects)
            return found() if isinstance(found, type) else found
        if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ValueError(
                f"Improper config format for {article} {self.kind}: expected a dict with 'class_name' and "
                f"'config', got {shown(config)}"
            )
        cls = self._find(config["class_name"], custom_objects)
        arguments = as_config(config["config"], f"{self.kind} {config['class_name']}")
        if not hasattr(cls, "from_config"):
            return cls(**arguments)
        if "custom_objects" in inspect.signature(cls.from_config).parameters:
            return cls.from_config(arguments, custom_objects=dict(custom_objects or {}))
        return cls.from_config(arguments)

    def lookup(self, name: str) -> Any:
        """Returns the built-in object or plugin of that name.

        Raises:
            ValueError: the name is unknown.
            ImportError: the plugin cannot be imported.
        """
        key = self._normalize(name)
        if key not in self._known:
            plugins = self._plugins()
            if key not in plugins:
                raise ValueError(self._unknown(name))
            self._known[key] = self._load(plugins[key])
        return self._known[key]

    def _find(self, name: Any, custom_objects: Mapping[str, Any] | None) -> Any:
        if not isinstance(name, str):
            raise ValueError(f"Unknown {self.kind}: {shown(name)}. A name must be a str")
        found = find_object(name, custom_objects)
        return self.lookup(name) if found is None else found

    def _unknown(self, name: str) -> str:
        known = self.names()
        hint = did_you_mean(self._normalize(name), known)
        others = "" if self.group else "Pass custom objects by custom_objects or custom_object_scope. "
        return f"Unknown {self.kind}: {name[:200]}.{hint} {others}Known: {', '.join(self._listed())}"

    def _listed(self) -> list[str]:
        """One name of each object for messages, sorted: the longest lower-case one, if there is one."""
        of: dict[int, str] = {}
        for name, thing in self._known.items():
            of[id(thing)] = max(of.get(id(thing), ""), name, key=lambda n: (n.islower(), len(n)))
        return sorted({*of.values(), *self._plugins()})

    def _load(self, plugin: EntryPoint) -> Any:
        try:
            return plugin.load()
        except (ImportError, AttributeError) as error:
            package = f"package {plugin.dist.name!r}" if plugin.dist is not None else "a package"
            raise ImportError(
                f"the {self.kind} {plugin.name!r} cannot be imported: {package} says that it is "
                f"{plugin.value!r} ({type(error).__name__}: {error})"
            ) from error

    def _plugins(self) -> dict[str, EntryPoint]:
        if self.group is None:
            return {}
        from importlib.metadata import entry_points  # slow to import, and few programs have plugins

        return {self._normalize(point.name): point for point in entry_points(group=self.group)}


def serialize_object(thing: Any) -> Any:
    """Returns ``{"class_name": ..., "config": ...}`` for an object with ``get_config``, or a function's name.

    Raises:
        ValueError: ``thing`` has neither, and is not None.
    """
    if thing is None:
        return None
    if hasattr(thing, "get_config"):
        return {"class_name": type(thing).__name__, "config": thing.get_config()}
    if hasattr(thing, "__name__"):
        return thing.__name__
    raise ValueError(f"Cannot serialize {thing!r}: it has neither get_config() nor a name")


def by_name(*things: Any) -> dict[str, Any]:
    """A dict of classes and functions by ``__name__``."""
    return {thing.__name__: thing for thing in things}


def by_snake_case_name(classes: Mapping[str, Any]) -> dict[str, Any]:
    """The same classes by name in snake case, such as ``glorot_uniform``."""
    return {snake_case(name): cls for name, cls in classes.items()}


def public_classes(*modules: ModuleType) -> dict[str, Any]:
    """The classes in the modules' ``__all__``, by name."""
    return {name: found for name, found in _public(modules) if isinstance(found, type)}


def public_functions(*modules: ModuleType) -> dict[str, Any]:
    """The functions in the modules' ``__all__``, by all their names."""
    return {name: found for name, found in _public(modules) if not isinstance(found, type)}


def snake_case(name: str) -> str:
    """A class's name in snake case, as ``to_snake_case`` of tf.keras makes it.

    >>> snake_case("MaxPooling2D"), snake_case("LayerNormalization")
    ('max_pooling2d', 'layer_normalization')
    """
    spaced = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower().lstrip("_")


def _public(modules: tuple[ModuleType, ...]) -> list[tuple[str, Any]]:
    return [(name, getattr(module, name)) for module in modules for name in module.__all__]
