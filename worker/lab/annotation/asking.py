"""Asks about one record. Answers in the journal are not asked for again; malformed answers are, a few times."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from worker.errors import MalformedAnswerError, NotAnnotatedError, NotAnsweredError, RefusedError
from worker.lab.annotation.answers import Element, read_list
from worker.lab.annotation.costs import Costs
from worker.lab.annotation.endpoint import Address, Reply
from worker.lab.annotation.faults import AnnotationCause
from worker.lab.annotation.journal import Answered, Journal
from worker.lab.annotation.stop import Stop

ATTEMPTS = 3
"""How many times an answer is requested as long as all answers are malformed."""
AGGREGATOR = 0
"""The aggregator's step in the journal. Annotators have the steps 1 to n."""

MessageContent = str | list[dict[str, Any]]


class Asked(Protocol):
    """What answers the requests: worker.lab.annotation.endpoint.Endpoint."""

    address: Address
    max_tokens: int

    def ask(self, content: MessageContent) -> Reply:
        """See Endpoint."""


class Asking:
    """The requests of one record."""

    def __init__(self, image: str, journal: Journal, costs: Costs, stop: Stop) -> None:
        self._image, self._journal, self._costs, self._stop = image, journal, costs, stop
        self._before = journal.take(image)

    def good_list(
        self, step: int, asked: Asked, content: Callable[[], MessageContent], element: type[Element]
    ) -> list[Element]:
        """Returns the first readable list, from the journal or from a new request. `content` is made only if needed.

        Raises NotAnnotatedError (refused, not_answered, malformed), and the errors of Asked that end the whole run.
        """
        said = ""
        for answer in self._answers(step, asked, content):
            try:
                return read_list(answer.text, element)
            except MalformedAnswerError as error:
                said = f"cut off at the limit of --max-tokens: {error}" if answer.cut_off else str(error)
        raise NotAnnotatedError(AnnotationCause.MALFORMED, f"{asked.address} {ATTEMPTS} times, the last: {said}")

    def _answers(self, step: int, asked: Asked, content: Callable[[], MessageContent]) -> Iterator[Answered]:
        before = [answer for answer in self._before if answer.step == step]
        yield from before
        for _ in range(ATTEMPTS - len(before)):
            yield self._ask(step, asked, content())

    def _ask(self, step: int, asked: Asked, content: MessageContent) -> Answered:
        """Sends one request. Its answer is on disk when this returns."""
        self._stop.check()
        model = str(asked.address)
        with self._costs.set_aside(model, asked.max_tokens):
            try:
                reply = asked.ask(content)
            except RefusedError as error:
                raise NotAnnotatedError(AnnotationCause.REFUSED, str(error)) from None
            except NotAnsweredError as error:
                raise NotAnnotatedError(AnnotationCause.NOT_ANSWERED, str(error)) from None
            answer = Answered(
                image=self._image,
                step=step,
                model=model,
                text=reply.text,
                cut_off=reply.cut_off,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
            )
            self._journal.add(answer)
            self._costs.add(answer)
        return answer
