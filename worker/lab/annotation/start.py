"""Puts a run together: makes endpoints, prices, journal and stores from the command's options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.detector.description import vlm_only
from worker.detector.loading import load_description
from worker.errors import ConfigurationError
from worker.images import SizeLimits
from worker.lab.annotation import pictures
from worker.lab.annotation.costs import Costs, Price, read_prices
from worker.lab.annotation.endpoint import Address, Endpoint, find_key
from worker.lab.annotation.journal import Journal
from worker.lab.annotation.pace import Pace
from worker.lab.annotation.pipeline import AnnotationParts
from worker.lab.annotation.prompts import Prompts
from worker.lab.annotation.run import Files, Tell, annotate_dataset
from worker.lab.annotation.stop import Stop
from worker.lab.datasets.digest import digest
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.datasets.records import Record
from worker.settings import Settings
from worker.storage import open_stores


@dataclass(frozen=True)
class Options:
    """The options of `fakesweep annotate`. `max_cost` is in US dollars, prices are in US dollars per million tokens."""

    dataset: Path
    images: str
    output: Path
    annotators: tuple[str, ...]
    aggregator: str
    requests_per_minute: float = 60
    concurrency: int = 4
    timeout_s: float = 120
    max_tokens: int = 1500
    prices: Path | None = None
    input_price: float | None = None
    output_price: float | None = None
    max_cost: float | None = None
    limit: int | None = None
    strict: bool = False


def annotate_as_asked(
    options: Options, settings: Settings, environment: Mapping[str, str], *, warn: Callable[[str], object], tell: Tell
) -> dict[str, Any]:
    """Puts the parts together and runs them. Returns the figures of the run. Raises like annotate_dataset.

    `environment` holds the keys of the endpoints.
    """
    stop, prompts = Stop(), Prompts.shipped()
    files = Files.at(options.output, options.dataset)
    # The aggregator comes first: these positions are the numbers in the keys' variables and in the journal.
    addresses = [Address.parse(text, environment) for text in (options.aggregator, *options.annotators)]
    faults = Faults()
    records = read_records(options.dataset, faults)
    costs = open_costs(addresses, options)
    aggregator, *annotators = open_endpoints(addresses, options, environment, stop)
    with Journal.opened(files.journal, _run(options.dataset, records, addresses, prompts)) as journal:
        parts = AnnotationParts(
            annotators=annotators,
            aggregator=aggregator,
            prompts=prompts,
            journal=journal,
            costs=costs,
            stop=stop,
            description=vlm_only(load_description(settings), "annotation"),
            store=open_stores(settings),
            images=options.images,
            concurrency=options.concurrency,
            limits=SizeLimits(settings.max_pixels, settings.min_edge),
        )
        wanted = records[: options.limit]
        outcome = annotate_dataset(wanted, faults, parts, files, strict=options.strict, warn=warn, tell=tell)
    rule = "two or more annotators" if len(annotators) > 1 else "none: there is one annotator"
    return {"output": str(files.output), **outcome.summary(), "agreement": rule, "costs": costs.summary()}


def open_endpoints(
    addresses: Sequence[Address], options: Options, environment: Mapping[str, str], stop: Stop
) -> list[Endpoint]:
    """Makes an endpoint for each address. Endpoints of one server share a pace, because they share its limits."""
    paces = {address.base_url: Pace(options.requests_per_minute, stop.wait) for address in addresses}
    return [
        Endpoint(
            address,
            *find_key(number, addresses, environment),
            paces[address.base_url],
            stop,
            timeout_s=options.timeout_s,
            max_tokens=options.max_tokens,
        )
        for number, address in enumerate(addresses)
    ]


def open_costs(addresses: Sequence[Address], options: Options) -> Costs:
    """Makes the costs. Raises ConfigurationError if options exclude each other, or --max-cost needs a missing price."""
    one_for_all = (options.input_price, options.output_price)
    if options.prices and one_for_all != (None, None):
        raise ConfigurationError("--prices and --input-price exclude each other: give only one of them")
    by_model = read_prices(options.prices) if options.prices else {}
    match one_for_all:
        case (float(each_input), float(each_output)):
            price = Price(input=each_input, output=each_output)
            by_model = {address.model: price for address in addresses}
        case (float(), None) | (None, float()):
            raise ConfigurationError("--input-price and --output-price belong together: give both")
    missing = sorted({address.model for address in addresses} - by_model.keys())
    if options.max_cost is not None and missing:
        raise ConfigurationError(
            f"--max-cost needs the price of {', '.join(missing)}: give --prices, or --input-price and --output-price"
        )
    known = {str(address): by_model[address.model] for address in addresses if address.model in by_model}
    return Costs(known, options.max_cost)


def _run(dataset: Path, records: Sequence[Record], addresses: Sequence[Address], prompts: Prompts) -> dict[str, Any]:
    """Returns what would change an answer. A journal with other values is refused."""
    aggregator, *annotators = map(str, addresses)
    return {
        "dataset": digest(dataset, (record.image for record in records)),
        "prompts": prompts.revision,
        "picture": pictures.REVISION,
        "annotators": annotators,
        "aggregator": aggregator,
    }
