"""Judge a real photograph and forged versions of it: `make demo`, or `python examples/demo.py [FOLDER]`.

The photograph, NASA's portrait of Eileen Collins, ships in scikit-image. The forge makes the others of it:
four components edited in a known order, another person's face, and a blend with a changed copy of itself. All
come from the forge's first seed, whatever the weights make of them.
"""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from forgerank.cli.detect import Outputs, detect_files
from forgerank.cli.main import one_line_errors
from forgerank.detect import Detector
from forgerank.report.words import verdict_label
from forgerank.serving.web.examples import EXAMPLES, example_bytes

NAMES = ("astronaut.png", "four-edits.jpg", "face-swap.jpg", "self-blend.jpg")


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in NAMES]
    for path in paths:
        path.write_bytes(example_bytes(path.name))

    console = Console()
    report, values = folder / "report.html", folder / "report.json"
    outputs = Outputs(html=report, json=str(values))
    code = detect_files(paths, Detector(), outputs, console, Console(stderr=True))
    entries = json.loads(values.read_text(encoding="utf-8"))["reports"]
    console.print("", truth_table(entries), sep="\n")
    console.print(verdict_on(entries), "", sep="\n", soft_wrap=True)
    console.print(f"Report: {report.resolve().as_uri()}", soft_wrap=True)
    return code


def truth_table(entries: list[dict]) -> Table:
    """What was done to each image, beside the answer."""
    table = Table("Image", "Truth", "Answer", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for entry in entries:
        name = Path(entry["path"]).name
        table.add_row(name, EXAMPLES[name].truth, answer(entry))
    return table


def answer(entry: dict) -> str:
    ranked = [part for face in entry["faces"] for part in face["components"] if part["rank"]]
    names = ", then ".join(part["name"] for part in sorted(ranked, key=lambda part: part["rank"]))
    label = verdict_label(entry["verdict"], entry["reason"])
    return f"{label}: {names}" if names else label


def verdict_on(entries: list[dict]) -> str:
    """In one line, whether the verdicts are right."""
    truths = {name: EXAMPLES[name].truth.partition(":")[0] for name in NAMES}
    judged = {Path(entry["path"]).name: entry["verdict"] for entry in entries}
    wrong = [name for name, verdict in judged.items() if verdict not in (truths[name], "undetermined")]
    open_ = [name for name, verdict in judged.items() if verdict == "undetermined"]
    right = len(judged) - len(wrong) - len(open_)
    line = f"Right verdicts: {right} of {len(judged)}"
    line += f"; wrong: {', '.join(wrong)}" if wrong else ""
    return line + (f"; none: {', '.join(open_)}" if open_ else "") + "."


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
