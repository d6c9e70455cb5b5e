"""Programs at random, without what the two SDKs are known to do differently."""

from __future__ import annotations

import random
from typing import Any

from programs import Program

VALUES: list[Any] = [None, 5, "in", "ü", [1, 2], {"k": [None]}]
DAY = 86_400


class Generated:
    """Makes one program.

    Attributes:
        looks: the program asks whether it is replaying; then nothing of it may happen before it is waited for, where
            the official SDK tells the old task's answer.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names = 0
        self.looks = rng.random() < 0.5
        self._kept: list[str] = []

    def program(self) -> Program:
        steps: Program = [self._step() for _ in range(self._rng.randint(1, 6))]
        ending = self._rng.random()
        if ending < 0.1:
            steps.append(["raise", "the end ü"])
        elif ending < 0.2:
            steps.append(["continue", self._value()])
        return steps

    def _step(self) -> list[Any]:
        roll = self._rng.random()
        if roll < 0.3:
            return ["caught", self._task(2)]
        if roll < 0.45:
            return ["yield", self._task(1)]
        if roll < 0.65:
            return ["race", *(self._leaf() for _ in range(self._rng.randint(2, 3)))]
        if roll < 0.72:
            return ["signal", "k", "add", self._value()]
        if roll < 0.78:
            return ["status", self._rng.choice(["working", {"n": 1}, [1], 7])]
        if roll < 0.84:
            return ["ids"]
        if roll < 0.88:
            return ["input"]
        if self.looks:
            return ["look"]
        if self._kept and self._rng.random() < 0.6:
            return ["caught", ["kept", self._rng.choice(self._kept)]]
        self._names += 1
        self._kept.append(f"t{self._names}")
        return ["keep", self._kept[-1], self._leaf()]

    def _task(self, depth: int) -> list[Any]:
        if depth == 0 or self._rng.random() < 0.5:
            return self._leaf()
        parts = [self._task(depth - 1) for _ in range(self._rng.randint(1, 3))]
        return [self._rng.choice(["all", "any"]), *parts]

    def _leaf(self) -> list[Any]:
        self._names += 1
        name = f"f{self._names}"
        match self._rng.choice(
            ["activity"] * 3 + ["retry", "child", "child-retry", "timer", "event", "entity", "http"]
        ):
            case "activity":
                return ["activity", name, self._value()]
            case "retry":
                return ["retry", name, self._rng.randint(1, 3), self._value()]
            case "child":
                return ["child", name, self._value(), self._rng.choice([None, f"{name}-id"]), self._version()]
            case "child-retry":
                return ["child-retry", name, self._rng.randint(1, 2), self._value()]
            case "timer":
                return ["timer", self._rng.choice([-5, 30, 90.5, 8 * DAY, 20 * DAY]) + self._names]
            case "event":
                return ["event", name]
            case "entity":
                return ["entity", name, "get", self._value()]
            case _:
                content = self._rng.choice([None, {"a": [1]}])
                headers = self._rng.choice([None, {"X": "y"}])
                return ["http", self._rng.choice(["GET", "POST", "PUT"]), "https://h/x?y=1", content, headers]

    def _value(self) -> Any:
        return self._rng.choice(VALUES)

    def _version(self) -> str | None:
        return self._rng.choice([None, "2.0"])
