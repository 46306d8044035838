"""Plain values of dataclasses from those of TOML: every key accounted for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from xdemsr.errors import InputError


def from_table(kind: Any, values: Any, where: str) -> Any:
    """A value of a dataclass or plain type from TOML's, every key accounted for."""
    if is_dataclass(kind):
        return _build_dataclass(kind, values, where)
    origin = get_origin(kind)
    if origin is Literal:
        if values not in get_args(kind):
            raise InputError(f"recipe: {where} = {values!r} is not one of {get_args(kind)}.")
        return values
    if origin is tuple:
        return _build_tuple(get_args(kind), values, where)
    if origin is Mapping:
        inner = get_args(kind)[1]
        _check_table(values, where)
        return {key: from_table(inner, value, _join(where, key)) for key, value in values.items()}
    if kind is Any:
        return values
    if kind is float and isinstance(values, int) and not isinstance(values, bool):
        return float(values)
    if not isinstance(values, kind) or (kind is int and isinstance(values, bool)):
        raise InputError(f"recipe: {where} = {values!r} must be {kind.__name__}.")
    return values


def _build_tuple(kinds: tuple[Any, ...], values: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise InputError(f"recipe: {where} = {values!r} must be a list.")
    if ... not in kinds and len(values) != len(kinds):
        raise InputError(f"recipe: {where} = {values!r} must be a list of {len(kinds)}.")
    return tuple(from_table(kinds[0], value, where) for value in values)


def _build_dataclass(kind: Any, values: Any, where: str) -> Any:
    _check_table(values, where)
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
            raise InputError(f"recipe: {_join(where, key)!r} means nothing. {hint}")
    hints = get_type_hints(kind)
    built = {key: from_table(hints[key], value, _join(where, key)) for key, value in values.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise InputError(f"recipe: {where or 'it'} is not complete: {error}.") from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _check_table(values: Any, where: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"recipe: [{where}] must be a table, found {values!r}.")
