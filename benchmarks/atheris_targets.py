"""Coverage-guided fuzzing of whatever reads files, with atheris: outside CI, `pip install atheris` first.

    python benchmarks/atheris_targets.py photograph --seconds 120
    python benchmarks/atheris_targets.py video crash-1234...        # repeats one input

The targets are the kinds of tests/fuzz/targets.py; those that are judged, and bombs, are slow. Inputs that
reach new code are kept in runs/atheris/TARGET; the first come from tests/fuzz/corpus/TARGET where it exists.
Coverage is that of Python code, without decoders in C. Further options are libFuzzer's, as -max_len=100000.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests")]
SECONDS, MEBIBYTES = 10, 4096  # limits of one input


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if kind in ("-h", "--help"):
        print(__doc__)
        return
    import atheris

    folder = Path(tempfile.mkdtemp(prefix="atheris-"))

    def test(content: bytes) -> None:
        place = folder / "input"
        place.mkdir()
        answer(kind, content, place)
        shutil.rmtree(place)

    with atheris.instrument_imports(
        include=["forgerank", "PIL", "zipfile", "tarfile", "json", "yaml", "csv"]
    ):
        from targets import KINDS, answer

        if kind not in KINDS:
            sys.exit(f"{__doc__}\nTargets: {', '.join(KINDS)}")
        test(KINDS[kind].make(Random(0)))  # imports inside functions happen here
    rest = sys.argv[2:]
    if rest[:1] == ["--seconds"]:
        rest = [f"-max_total_time={rest[1]}", *rest[2:]]
    if all(argument.startswith("-") for argument in rest):
        found = ROOT / "runs" / "atheris" / kind
        found.mkdir(parents=True, exist_ok=True)
        rest += [str(found), *map(str, (ROOT / "tests" / "fuzz" / "corpus").glob(kind))]
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}", f"-artifact_prefix={ROOT / 'runs'}/"]
    atheris.Setup([sys.argv[0], *limits, *rest], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
