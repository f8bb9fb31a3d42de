"""Classes found by name: built in, from an installed package's entry points, or by import path."""
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points

from mmcycle.errors import UserError


def known(group: str, builtin: Mapping[str, str]) -> dict[str, str]:
    """Every name of an entry-point group: name -> "package.module:Class". Built-in names cannot be taken."""
    return {point.name: point.value for point in entry_points(group=group)} | dict(builtin)


def find(kind: str, name: str, group: str, builtin: Mapping[str, str], contract: type, example: str) -> type:
    """A known name, or "package.module:Class" -> a class derived from `contract`; imported only now.

    kind and example are for the sentence that says what went wrong.
    """
    names = known(group, builtin)
    target = names.get(name, name)
    if ":" not in target:
        hint = get_close_matches(name, names, n=1)
        raise UserError(
            f"unknown {kind} {name!r}.{f' Did you mean {hint[0]!r}?' if hint else ''} "
            f"Known: {', '.join(names)}, or an import path such as {example!r}."
        )
    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:          # a module of the user's may fail in any way while it is imported
        raise UserError(f"{kind} {name!r}: {target} could not be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, contract)):
        expected = f"{contract.__module__}.{contract.__name__}"
        raise UserError(f"{kind} {name!r}: {target} is not a class derived from {expected}")
    return found
