"""Saves vLLM's front end, which runs in our process, from repeating work for each token."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import structlog
from vllm import envs
from vllm.v1.engine.async_llm import AsyncLLM

log = structlog.get_logger(__name__)

_REMEMBERED = 65_536


def spare_front_end(llm: AsyncLLM) -> None:
    """Caches what vLLM's front end repeats. Call it once after the engine's start. It does nothing if vLLM has changed.

    vLLM decodes the text of each token whose log-probability it returns. Nobody reads that text here, but it can be
    turned off only together with stop strings. For an answer that ends with its opening, this was more than half of the
    front end's work, always for the same few tokens. So their texts are remembered. vLLM also reads the environment for
    each token. Here it uses the cache that it has for its engine core, so variables that are set later have no effect
    in this process.
    """
    try:
        envs.enable_envs_cache()
        tokenizer = llm.output_processor.tokenizer
        tokenizer.decode = remembered(tokenizer.decode)
        tokenizer.convert_ids_to_tokens = remembered(tokenizer.convert_ids_to_tokens)
    except AttributeError as error:
        log.warning("front_end_not_spared", reason=str(error))


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that calls `function` once for each list of token ids. Calls with options are not cached."""

    @lru_cache(maxsize=_REMEMBERED)
    def once(ids: tuple[int, ...]) -> Any:
        return function(list(ids))

    def call(ids: Any, *args: Any, **options: Any) -> Any:
        if args or options or not isinstance(ids, list):
            return function(ids, *args, **options)
        found = once(tuple(ids))
        return list(found) if isinstance(found, list) else found

    return call
