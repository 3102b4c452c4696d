"""Find out what the confidence of an adapter's plans is worth, on held-out requests, and write it into its card.

    python -m llmos.nlui.calibrate [--model NAME] [--pairs N]

`llmos.nlui.calibration` is the map that comes of it.
"""

import argparse
import asyncio
import sys

from rich.console import Console
from rich.table import Table

from llmos.errors import LlmosError, ModelError
from llmos.nlui import calibration, models
from llmos.nlui.adapters import adapter_for
from llmos.nlui.evaluation.cases import heldout_cases
from llmos.nlui.evaluation.measuring import evaluate


def run(model: str, pairs: int, console: Console) -> None:
    """Ask, fit, write and show.

    :raises LlmosError: the model has no adapter or cannot be loaded, or there are too few pairs.
    """
    calibration.require_enough(pairs)
    adapter = adapter_for(models.locate(model))
    if adapter is None:
        raise ModelError(f"{model} has no adapter whose card could hold a calibration; train one first", model=model)
    card = adapter.with_suffix(".json")
    results, _ = asyncio.run(evaluate(heldout_cases(pairs, "calibrate"), model))
    fitted = calibration.fit([(one.confidence, one.right) for one in results])
    calibration.store(fitted, card)
    table = Table("confidence", "probability", title=f"{card.name}, {fitted.pairs} pairs", title_justify="left")
    for confidence, probability in fitted.points:
        table.add_row(f"{confidence:.4f}", f"{probability:.3f}")
    console.print(table)
    sure = [one.right for one in results if not fitted.doubtful(one.confidence)]
    console.print(
        f"exact: {sum(one.right for one in results) / len(results):.1%} of all; below {fitted.threshold:.4g} "
        f"{len(results) - len(sure)} are asked about, of the others {sum(sure) / len(sure):.1%} are exact"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.calibrate", description="Calibrate an adapter's confidence.")
    parser.add_argument("--model", default=models.DEFAULT, help="the adapter's model (%(default)s)")
    parser.add_argument("--pairs", type=int, default=600, help="held-out requests to observe (%(default)s)")
    options = parser.parse_args()
    try:
        run(options.model, options.pairs, Console())
    except (LlmosError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
