"""Answers about graphs and workloads, which never change, kept as long as those live."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def remembered(function: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
    """The function, which works its answer for each object out once. The answer isn't to be changed."""
    known: WeakKeyDictionary[Asked, Answer] = WeakKeyDictionary()

    @wraps(function)
    def answered(asked: Asked) -> Answer:
        if asked not in known:
            known[asked] = function(asked)
        return known[asked]

    return answered
