"""Why the Fixed-Acc of a network is low: the set of components, their order, or their number.

    python benchmarks/fixed_accuracy.py RUN... --data FORGED... [--split val] [--limit 1920]

RUN is a folder that `forgerank train` or `forgerank reproduce` wrote, or a file of weights. All are judged
on the same images. Per run, in percent:

- Fixed-Acc: of the network's own sequences, from scores at 0.5 or from its decoder;
- in true order: of the same components, the right ones in their true order, the wrong ones behind them;
- one threshold: with the one threshold for all components that has the best Fixed-Acc on the other half of
  the people; not for networks with a decoder;
- named: components named per image, in the network's own sequences and with that threshold.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from forgerank.evaluation.evaluate import predict_split
from forgerank.evaluation.protocols import predicted_sequences
from forgerank.evaluation.scorers import Predictions, open_scorer
from forgerank.labels import Order, Sequences, presence
from forgerank.metrics.sequence import (
    all_none_floor,
    fixed_accuracy,
    multi_label_accuracy,
    predict_sequences,
)
from forgerank.reproduce.run_metrics import machine

CANDIDATES = np.linspace(0.3, 0.99, 70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    columns = ("Fixed-Acc", "in true order", "one threshold", "named", "named then", "multi-label", "then")
    table = Table("run", *columns, "floor", box=None, title=machine())
    for run in options.runs:
        scorer = open_scorer(run / "best.ckpt" if run.is_dir() else run)
        predictions = predict_split(scorer, options.data, options.split, limit=options.limit)
        table.add_row(str(run), *cells_of(predictions, scorer.config.loss.order))
    Console(width=160).print(table)


def cells_of(predictions: Predictions, order: Order) -> list[str]:
    """The cells of one run."""
    truth, own = predictions.sequences, predicted_sequences(predictions, order)
    cells = [percent(fixed_accuracy(truth, own)), percent(fixed_accuracy(truth, in_true_order(truth, own)))]
    if predictions.predicted is None:
        tuned = with_one_threshold(predictions, order)
        cells += [percent(fixed_accuracy(truth, tuned)), named(own), named(tuned)]
        cells += [percent(components_right(predictions, own)), percent(components_right(predictions, tuned))]
    else:
        cells += ["-", named(own), "-", percent(components_right(predictions, own)), "-"]
    return [*cells, percent(all_none_floor(truth))]


def in_true_order(truth: Sequences, guess: Sequences) -> Sequences:
    """The labels of `guess`, those of the truth first and as there; (M, P) both."""
    rows = np.zeros_like(guess)
    for row, true, named in zip(rows, truth.tolist(), guess.tolist(), strict=True):
        # A decoder may name a component twice.
        labels = [label for label in true if label and label in named]
        labels += [label for label in dict.fromkeys(named) if label and label not in true]
        row[: len(labels)] = labels
    return rows


def with_one_threshold(predictions: Predictions, order: Order) -> Sequences:
    """Sequences by one threshold: for each half of the people, the best for Fixed-Acc on the other half."""
    people = sorted(set(predictions.groups))
    half = dict(zip(people, np.random.default_rng(0).permutation(len(people)) % 2, strict=True))
    fold = np.array([half[person] for person in predictions.groups])
    judged = np.zeros_like(predictions.sequences)
    for number in (0, 1):
        known = predictions.rows(fold != number)
        gains = [fixed_accuracy(known.sequences, by_threshold(known, t, order)) for t in CANDIDATES]
        best = float(CANDIDATES[int(np.argmax(gains))])
        judged[fold == number] = by_threshold(predictions.rows(fold == number), best, order)
    return judged


def by_threshold(predictions: Predictions, threshold: float, order: Order) -> Sequences:
    thresholds = np.full(predictions.components.shape[1], threshold)
    return predict_sequences(predictions.components, thresholds, order, predictions.order)


def components_right(predictions: Predictions, guess: Sequences) -> float:
    present = presence(guess, predictions.presence.shape[1])
    return multi_label_accuracy(predictions.presence, present)


def named(guess: Sequences) -> str:
    return f"{(guess > 0).sum(axis=1).mean():.2f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
