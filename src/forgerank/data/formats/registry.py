"""The data sets that a config or a command can name."""

from collections.abc import Callable

from forgerank.data.forged import OnTheFlyForge
from forgerank.data.forged_pack import PackForge
from forgerank.data.formats.celebdf import celebdf
from forgerank.data.formats.clips import Clip
from forgerank.data.formats.deepfakebench import deepfakebench
from forgerank.data.formats.dfdc import dfdc
from forgerank.data.formats.faceforensics import dfd, faceforensics
from forgerank.data.formats.folder import Folder
from forgerank.data.formats.pack import Pack
from forgerank.data.formats.prepared import Prepared
from forgerank.data.formats.seqdeepfake import SeqDeepFake
from forgerank.data.formats.shards import Shards
from forgerank.data.formats.wilddeepfake import wilddeepfake
from forgerank.data.sample import Source

# Faces to train on. Each is called as (root, split) with the config's `options` as keywords.
DATASETS: dict[str, Callable[..., Source]] = {
    "seqdeepfake": SeqDeepFake,
    "forge": OnTheFlyForge,
    "folder": Folder,
    "prepared": Prepared,
    "shards": Shards,
    "pack": Pack,
    "packforge": PackForge,
}

# Videos to cut faces out of. Each is called as (root) with its options as keywords and gives every split.
CLIPS: dict[str, Callable[..., list[Clip]]] = {
    "faceforensics": faceforensics,
    "dfd": dfd,
    "celebdf": celebdf,
    "dfdc": dfdc,
    "wilddeepfake": wilddeepfake,
    "deepfakebench": deepfakebench,
}
