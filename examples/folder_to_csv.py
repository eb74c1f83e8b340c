"""Judge every photograph of a folder from Python and print one CSV line per face.

python examples/folder_to_csv.py holiday/ > faces.csv
"""

import csv
import sys
from pathlib import Path

from forgerank.detect import Detector
from forgerank.media.files import find_photos
from forgerank.types import InputError


def main(folder: Path) -> None:
    detector = Detector()
    rows = csv.writer(sys.stdout)
    rows.writerow(["path", "face", "verdict", "forged_probability", "sequence"])
    photos, _ = find_photos([folder])
    for photo in photos:
        try:
            (report,) = detector.detect([photo])
        except InputError as error:
            print(error, file=sys.stderr)
            continue
        for number, face in enumerate(report.faces, start=1):
            sequence = " ".join(component.name for component in face.sequence)
            rows.writerow([report.path, number, face.verdict, f"{face.forged_probability:.3f}", sequence])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
