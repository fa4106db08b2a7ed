"""Counts what was paid: tokens by model from the endpoints' `usage`, their price if it is known, and a limit on it."""

import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from worker.errors import AnnotationStoppedError, ConfigurationError
from worker.files import read_text
from worker.lab.annotation.journal import Answered
from worker.wording import worded

UNKNOWN_INPUT = 32_000
"""Input tokens set aside for a model's first request. The highest count that a vendor documents for an image of
1024 x 1024 pixels is 25,501 (gpt-4o-mini)."""
LEAST_INPUT, GROWTH = 4_096, 3
"""For later requests: three times the largest request so far, because the first images may be small; or the minimum."""


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Returns dollars. This is the most that it can be, because discounts for cached input are not known here."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


def read_prices(path: Path) -> dict[str, Price]:
    """Reads a TOML file with a table for each model: `["gpt-4o"]`, `input = 2.5`, `output = 10`."""
    try:
        return TypeAdapter(dict[str, Price]).validate_python(tomllib.loads(read_text(path)))
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigurationError(f"--prices: {path}: {'.'.join(map(str, fault['loc']))}: {worded(fault)}") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--prices: {path} cannot be read: {error}") from None


@dataclass
class Used:
    """What one model has used. `largest` is the highest number of input tokens in one request."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    without_usage: int = 0
    largest: int = 0

    def add(self, answer: Answered) -> None:
        """Adds one finished request."""
        self.requests += 1
        if answer.input_tokens is None or answer.output_tokens is None:
            self.without_usage += 1
            return
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        self.largest = max(self.largest, answer.input_tokens)


class Costs:
    """The costs of all runs with one output. `prices` are by model; some models may have none. Thread-safe.

    `max_cost`, in dollars, needs the price of every model. To keep it, the most that a request is likely to cost is set
    aside before the request.
    """

    def __init__(self, prices: Mapping[str, Price], max_cost: float | None = None) -> None:
        self._prices, self._max_cost = prices, max_cost
        self._used: dict[str, Used] = {}
        self._set_aside: list[float] = []
        self._changed = threading.Condition()

    def add(self, answer: Answered) -> None:
        """Adds a finished request, from this run or an earlier one."""
        with self._changed:
            self._used.setdefault(answer.model, Used()).add(answer)

    @contextmanager
    def set_aside(self, model: str, max_tokens: int) -> Iterator[None]:
        """Sets the likely costs of a request aside while the body sends it.

        Waits while the requests in flight might exceed the limit together with this one.

        Raises AnnotationStoppedError when the limit might be exceeded.
        """
        with self._changed:
            while (most := self._most(model, max_tokens)) + sum(self._set_aside) > self._left():
                if not self._set_aside:
                    raise self._exhausted(most)
                self._changed.wait()
            self._set_aside.append(most)
        try:
            yield
        finally:
            with self._changed:
                self._set_aside.remove(most)
                self._changed.notify_all()

    def _left(self) -> float:
        return float("inf") if self._max_cost is None else self._max_cost - (self._total() or 0)

    def _most(self, model: str, max_tokens: int) -> float:
        """Returns the dollars that the next request may cost."""
        if self._max_cost is None:
            return 0
        used = self._used.get(model, Used())
        if used.without_usage:
            raise AnnotationStoppedError(
                f"--max-cost cannot be kept: {model} does not say how many tokens it used; run again without the option"
            )
        tokens = max(GROWTH * used.largest, LEAST_INPUT) if used.largest else UNKNOWN_INPUT
        return self._prices[model].of(tokens, max_tokens)

    def _exhausted(self, most: float) -> AnnotationStoppedError:
        return AnnotationStoppedError(
            f"stopped before --max-cost {self._max_cost} is exceeded: {self._total() or 0:.4f} USD are spent, and the "
            f"next request may cost {most:.4f}; raise the limit and run the same command to continue"
        )

    def _cost(self, model: str) -> float | None:
        used = self._used.get(model, Used())
        price = self._prices.get(model)
        return price.of(used.input_tokens, used.output_tokens) if price else None

    def _total(self) -> float | None:
        costs = [self._cost(model) for model in self._used]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def summary(self) -> dict[str, Any]:
        """Returns the costs by model and in total. `usd` is None if a price is not known."""
        with self._changed:
            names = ("requests", "input_tokens", "output_tokens", "without_usage")
            models = {
                model: {name: getattr(used, name) for name in names} | {"usd": _rounded(self._cost(model))}
                for model, used in sorted(self._used.items())
            }
            total = {name: sum(getattr(used, name) for used in self._used.values()) for name in names}
            return {"models": models, "total": total | {"usd": _rounded(self._total())}, "max_usd": self._max_cost}


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 6)


def in_words(summary: Mapping[str, Any]) -> str:
    """Returns a text such as `12 requests, 13400 tokens in, 3210 out, 0.12 USD of 5`."""
    total, limit = summary["total"], summary["max_usd"]
    paid = "" if total["usd"] is None else f", {total['usd']:.4f} USD" + ("" if limit is None else f" of {limit:g}")
    missing = f", {total['without_usage']} did not say theirs" if total["without_usage"] else ""
    return (
        f"{total['requests']} requests, {total['input_tokens']} tokens in, {total['output_tokens']} out{missing}{paid}"
    )
