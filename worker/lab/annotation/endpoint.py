"""One model behind an OpenAI-compatible endpoint (chat completions), paced, with its faults told apart."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import openai
from openai.types.chat import ChatCompletion

from worker.errors import AnnotationStoppedError, ConfigurationError, FakesweepError, NotAnsweredError, RefusedError
from worker.lab.annotation.pace import Pace
from worker.lab.annotation.stop import Stop
from worker.texts import storable

if TYPE_CHECKING:
    import httpx2

OPENAI_URL = "https://api.openai.com/v1"
"""The client's own default."""
RETRIES = 5
"""The client's own, on 408, 409, 429, 5xx, time-outs and lost connections: after Retry-After, else 0.5 s, doubled up to
8 s. After a longer Retry-After than LONGEST_PAUSE_S it does not try again."""
LONGEST_PAUSE_S = 120
KEY = "FAKESWEEP_ANNOTATION_KEY_{}"
NO_KEY = "none"
"""What is sent where there is no key: the client wants something."""


@dataclass(frozen=True)
class Address:
    """MODEL@BASE_URL."""

    model: str
    base_url: str

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """`MODEL`, at OPENAI_BASE_URL or OpenAI, or `MODEL@BASE_URL`. Raises ConfigurationError."""
        found = re.fullmatch(r"(?P<model>.+?)(?:@(?P<url>https?://\S+))?", text)
        url = ((found and found["url"]) or environment.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        if not found or re.search(r"//[^/]*@|[?#]", url):
            raise ConfigurationError(
                "--annotator, --aggregator: give MODEL or MODEL@BASE_URL, the address without user, key or query"
            )
        return cls(found["model"], url)

    def __str__(self) -> str:
        return f"{self.model}@{self.base_url}"


@dataclass(frozen=True)
class Reply:
    """What came back. Tokens are None where the endpoint does not say; `cut_off` by the limit on its length."""

    text: str
    cut_off: bool
    input_tokens: int | None
    output_tokens: int | None


def find_key(number: int, addresses: Sequence[Address], environment: Mapping[str, str]) -> tuple[str, str]:
    """The key for the address of that number, and the variable that has it, or should.

    FAKESWEEP_ANNOTATION_KEY_<number>, or that of another number at the same address; else OPENAI_API_KEY at the address
    that it is meant for; else none, as servers of one's own want none. A key never goes to a server that it was not
    given for. Raises ConfigurationError where OpenAI's own is missing.
    """
    address = addresses[number]
    own = KEY.format(number)
    others = [KEY.format(other) for other, one in enumerate(addresses) if one.base_url == address.base_url]
    variables = [own, *others]
    if address.base_url == (environment.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/"):
        variables.append("OPENAI_API_KEY")
    for variable in variables:
        if key := environment.get(variable):
            return key, variable
    if address.base_url == OPENAI_URL:
        raise ConfigurationError(f"OPENAI_API_KEY is not set, and {address} needs one")
    return NO_KEY, variables[-1] if variables[-1] == "OPENAI_API_KEY" else own


class Endpoint:
    """Thread-safe. `key_variable` is what a person has to set when the key is wrong."""

    def __init__(
        self,
        address: Address,
        key: str,
        key_variable: str,
        pace: Pace,
        stop: Stop,
        *,
        timeout_s: float,
        max_tokens: int,
    ) -> None:
        self.address, self.max_tokens = address, max_tokens
        self._key, self._key_variable, self._pace, self._stop = key, key_variable, pace, stop
        hooks: dict[str, list[Any]] = {"request": [self._before], "response": [self._after]}
        self._client = openai.OpenAI(
            api_key=key,
            base_url=address.base_url,
            timeout=timeout_s,
            max_retries=RETRIES,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks),
        )

    def _before(self, _request: "httpx2.Request") -> None:
        # Here, as the client's own retries come by too.
        self._stop.check()
        self._pace.take()

    def _after(self, response: "httpx2.Response") -> None:
        if (seconds := _retry_after_s(response.headers.get("retry-after"))) > 0:
            self._pace.pause(min(seconds, LONGEST_PAUSE_S))

    def ask(self, content: str | list[dict[str, Any]]) -> Reply:
        """The answer to one message of the user.

        Raises RefusedError and NotAnsweredError for this request alone; ConfigurationError and AnnotationStoppedError
        when no other request will fare better.
        """
        # OpenAI's newer models refuse max_tokens, many other servers know nothing else.
        limit = "max_completion_tokens" if self.address.base_url == OPENAI_URL else "max_tokens"
        messages: Any = [{"role": "user", "content": content}]
        options: dict[str, Any] = {limit: self.max_tokens}
        try:
            completion = self._client.chat.completions.create(model=self.address.model, messages=messages, **options)
        except openai.APIError as error:
            raise self._fault(error) from None
        except ValueError as error:
            raise NotAnsweredError(f"{self.address}: no JSON: {error}"[:300]) from None
        if not isinstance(completion, ChatCompletion):
            raise NotAnsweredError(f"{self.address} does not speak the chat completions API")
        return _reply(completion)

    def _fault(self, error: openai.APIError) -> FakesweepError:
        said = " ".join(str(error).replace(self._key, "…").split())[:300]
        match error:
            case openai.AuthenticationError():
                # What the server says of a key may hold a part of it.
                return ConfigurationError(f"{self.address} refuses the key; set {self._key_variable}")
            case openai.NotFoundError():
                return ConfigurationError(f"{self.address} is not there (404); check the model's name and the address")
            case openai.RateLimitError() | openai.APIStatusError(status_code=402):
                return AnnotationStoppedError(
                    f"{self.address} takes no more for now ({said}); run the same command later to go on"
                )
            case openai.APITimeoutError() | openai.InternalServerError():
                return NotAnsweredError(f"{self.address}: {said}")
            case openai.APIConnectionError():
                return AnnotationStoppedError(
                    f"{self.address} cannot be reached ({error.__cause__ or said}); run the same command to go on"
                )
        return RefusedError(f"{self.address}: {said}")


def _reply(completion: ChatCompletion) -> Reply:
    # The client does not check what other servers leave out.
    choice = next(iter(completion.choices or ()), None)
    usage = completion.usage
    text = (choice.message.content or choice.message.refusal or "") if choice and choice.message else ""
    return Reply(
        text=storable(text),
        cut_off=choice is not None and choice.finish_reason == "length",
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
    )


def _retry_after_s(value: str | None) -> float:
    """Seconds; 0 without one. Of a moment in time nothing is made here: the client waits for it with that request."""
    try:
        return float(value or 0)
    except ValueError:
        return 0
