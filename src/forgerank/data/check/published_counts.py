"""How many videos each data set holds, as its authors published it: what `data check` counts against."""

# PUBLISHED[dataset][split, method], all as in `Clip`: a real video has method "". None as split: all splits
# together; None as method: real and forged together. Of a data set with compression levels, each level holds
# this many. Seq-DeepFake is left out: its counts could not be traced to their source.
Key = tuple[str | None, str | None]

_FORENSICS = ("", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")

PUBLISHED: dict[str, dict[Key, int]] = {
    # FaceForensics++, dataset/README.md: 1000 original sequences, "720 videos for train and 140 videos for
    # validation as well as testing"; every method manipulated all of them, FaceShifter (its README) included.
    "faceforensics": {
        (split, method): count
        for method in _FORENSICS
        for split, count in (("train", 720), ("val", 140), ("test", 140), (None, 1000))
    },
    # Celeb-DF's paper (arXiv 1909.12962, table 1), row DFD: 363 real and 3,068 DeepFake videos.
    "dfd": {("", ""): 363, ("", "DeepFakeDetection"): 3068},
    # Celeb-DF-v2/README.md of the authors: 590 Celeb-real, 300 YouTube-real, 5639 Celeb-synthesis, of these
    # 518 in List_of_testing_videos.txt.
    "celebdf": {
        (None, ""): 590 + 300,
        (None, "Celeb-synthesis"): 5639,
        ("test", None): 518,
        ("train", None): 590 + 300 + 5639 - 518,
    },
    # The DFDC paper (arXiv 2006.07397, section on the training set): 119,154 clips, 100,000 of them forged.
    "dfdc": {("train", ""): 19_154, ("train", "FAKE"): 100_000, ("train", None): 119_154},
    # The WildDeepfake paper (arXiv 2101.01456): 3,805 real and 3,509 fake face sequences, 7,314 in all.
    "wilddeepfake": {(None, ""): 3805, (None, "fake"): 3509, (None, None): 7314},
}
