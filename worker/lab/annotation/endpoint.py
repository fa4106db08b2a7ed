"""One model behind an OpenAI-compatible endpoint (chat completions), with a limited rate and distinct errors."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import openai
from openai.types.chat import ChatCompletion

from worker.errors import AnnotationStoppedError, ConfigurationError, FakesweepError, NotAnsweredError, RefusedError
from worker.lab.annotation.pace import Pace
from worker.lab.annotation.stop import Stop
from worker.secret_files import read_secret
from worker.texts import storable

if TYPE_CHECKING:
    import httpx2

OPENAI_URL = "https://api.openai.com/v1"
"""The default of OpenAI's client."""
RETRIES = 5
"""The client's own retries, after 408, 409, 429, 5xx, time-outs and lost connections. It waits for Retry-After, or
0.5 s, doubled up to 8 s. If Retry-After is longer than LONGEST_PAUSE_S, it does not retry."""
LONGEST_PAUSE_S = 120
KEY = "FAKESWEEP_ANNOTATION_KEY_{}"
NO_KEY = "none"
"""Sent if there is no key, because the client requires one."""


@dataclass(frozen=True)
class Address:
    """MODEL@BASE_URL."""

    model: str
    base_url: str

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Reads `MODEL`, at OPENAI_BASE_URL or OpenAI, or `MODEL@BASE_URL`. Raises ConfigurationError."""
        found = re.fullmatch(r"(?P<model>.+?)(?:@(?P<url>https?://\S+))?", text)
        url = ((found and found["url"]) or environment.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        if not found or re.search(r"//[^/]*@|[?#]", url):
            raise ConfigurationError(
                "--annotator, --aggregator: give MODEL or MODEL@BASE_URL; the URL must have no user, key or query"
            )
        return cls(found["model"], url)

    def __str__(self) -> str:
        return f"{self.model}@{self.base_url}"


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer. Tokens are None if it does not name them. `cut_off`: the limit on its length ended it."""

    text: str
    cut_off: bool
    input_tokens: int | None
    output_tokens: int | None


def find_key(number: int, addresses: Sequence[Address], environment: Mapping[str, str]) -> tuple[str, str]:
    """Returns the key for the address with this number, and the variable that holds it or should hold it.

    It is FAKESWEEP_ANNOTATION_KEY_<number>, or that of another number with the same address. Otherwise it is
    OPENAI_API_KEY, but only at the address that this key is meant for. Otherwise there is no key, because servers of
    your own need none. A key is never sent to another server. Raises ConfigurationError if OpenAI's own key is missing.
    """
    address = addresses[number]
    own = KEY.format(number)
    others = [KEY.format(other) for other, one in enumerate(addresses) if one.base_url == address.base_url]
    variables = [own, *others]
    if address.base_url == (environment.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/"):
        variables.append("OPENAI_API_KEY")
    for variable in variables:
        if key := read_secret(variable, environment):
            return key, variable
    if address.base_url == OPENAI_URL:
        raise ConfigurationError(f"OPENAI_API_KEY is not set, and {address} needs one")
    return NO_KEY, variables[-1] if variables[-1] == "OPENAI_API_KEY" else own


class Endpoint:
    """Asks one model. Thread-safe. `key_variable` is the variable that a user must set if the key is wrong."""

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
        # This is a hook so that the client's own retries are counted, too.
        self._stop.check()
        self._pace.take()

    def _after(self, response: "httpx2.Response") -> None:
        if (seconds := _retry_after_s(response.headers.get("retry-after"))) > 0:
            self._pace.pause(min(seconds, LONGEST_PAUSE_S))

    def ask(self, content: str | list[dict[str, Any]]) -> Reply:
        """Returns the answer to one message of the user.

        Raises RefusedError and NotAnsweredError for this request alone. Raises ConfigurationError and
        AnnotationStoppedError if other requests would fail, too.
        """
        # OpenAI's newer models refuse max_tokens, and many other servers know nothing else.
        limit = "max_completion_tokens" if self.address.base_url == OPENAI_URL else "max_tokens"
        messages: Any = [{"role": "user", "content": content}]
        options: dict[str, Any] = {limit: self.max_tokens}
        try:
            completion = self._client.chat.completions.create(model=self.address.model, messages=messages, **options)
        except openai.APIError as error:
            raise self._fault(error) from None
        except ValueError as error:
            raise NotAnsweredError(f"{self.address}: not JSON: {error}"[:300]) from None
        if not isinstance(completion, ChatCompletion):
            raise NotAnsweredError(f"{self.address} does not speak the chat completions API")
        return _reply(completion)

    def _fault(self, error: openai.APIError) -> FakesweepError:
        said = " ".join(str(error).replace(self._key, "…").split())[:300]
        match error:
            case openai.AuthenticationError():
                # The server's message about a key may contain a part of it.
                return ConfigurationError(f"{self.address} refuses the key; set {self._key_variable}")
            case openai.NotFoundError():
                return ConfigurationError(f"{self.address} is not there (404); check the model's name and the address")
            case openai.RateLimitError() | openai.APIStatusError(status_code=402):
                return AnnotationStoppedError(
                    f"{self.address} accepts no more requests now ({said}); run the same command later to continue"
                )
            case openai.APITimeoutError() | openai.InternalServerError():
                return NotAnsweredError(f"{self.address}: {said}")
            case openai.APIConnectionError():
                return AnnotationStoppedError(
                    f"{self.address} cannot be reached ({error.__cause__ or said}); run the same command to continue"
                )
        return RefusedError(f"{self.address}: {said}")


def _reply(completion: ChatCompletion) -> Reply:
    # The client does not check for fields that other servers omit.
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
    """Returns seconds, or 0 without a number. A date is ignored here: the client waits for it in that request alone."""
    try:
        return float(value or 0)
    except ValueError:
        return 0
