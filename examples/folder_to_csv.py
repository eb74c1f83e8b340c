"""Judge every photograph of a folder from Python and print one CSV line per face.

python examples/folder_to_csv.py holiday/ > faces.csv
"""

import csv
import sys
from pathlib import Path

from forgerank import Detector
from forgerank.api import Failure
from forgerank.detect.result import faces_of
from forgerank.media.files import find_photos


def main(folder: Path) -> None:
    detector = Detector()
    rows = csv.writer(sys.stdout)
    rows.writerow(["path", "face", "verdict", "forged_probability", "sequence"])
    photos, _ = find_photos([folder])
    for report in detector.stream(photos, on_error="report"):
        if isinstance(report, Failure):
            print(f"{report.path}: {report.reason}", file=sys.stderr)
            continue
        for number, face in enumerate(faces_of(report), start=1):
            sequence = " ".join(component.name for component in face.sequence)
            rows.writerow([report.path, number, face.verdict, f"{face.forged_probability:.3f}", sequence])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
