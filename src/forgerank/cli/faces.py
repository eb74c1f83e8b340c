"""`forgerank faces`: what the face models see in one photograph."""

from pathlib import Path

from PIL import Image as PILImage
from rich.console import Console
from rich.table import Table

from forgerank.faces.analyze import FaceAnalyzer
from forgerank.media.images import read_photo
from forgerank.types import Face, InputError


def list_faces(
    photo: Path, draw: Path | None, detector: str, detector_weights: Path | None, out: Console
) -> None:
    """Print a row per face and, where asked for, write the drawing. Raises InputError."""
    image = read_photo(photo)
    faces = FaceAnalyzer(detector=detector, detector_weights=detector_weights).analyze(image)
    if faces:
        out.print(face_table(faces))
    else:
        out.print("no face found")
    if draw is not None:
        from forgerank.faces.draw import draw_faces

        try:
            PILImage.fromarray(draw_faces(image, faces)).save(draw)
        except (OSError, ValueError) as error:  # Pillow raises ValueError for an unknown extension
            raise InputError(f"{draw}: cannot write the drawing ({error})") from None


def face_table(faces: list[Face]) -> Table:
    """A row per face, biggest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in (
        "Face",
        "Box",
        "Score",
        "Size px",
        "Sharpness",
        "Brightness",
        "Clipped",
        "Yaw°",
        "Pitch°",
        "Roll°",
    ):
        table.add_column(name, justify="right")
    for number, face in enumerate(faces, start=1):
        quality = face.quality
        table.add_row(
            str(number),
            " ".join(f"{value:.0f}" for value in face.box),
            f"{face.score:.2f}",
            f"{quality.size:.0f}",
            f"{quality.sharpness:.0f}",
            f"{quality.brightness:.2f}",
            f"{quality.clipped:.2f}",
            *(f"{angle:.0f}" for angle in (quality.yaw, quality.pitch, quality.roll)),
        )
    return table
