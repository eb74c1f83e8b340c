"""The data sets that a config or a command can name."""

from collections.abc import Callable

from forgerank.data.celebdf import celebdf
from forgerank.data.clips import Clip
from forgerank.data.deepfakebench import deepfakebench
from forgerank.data.dfdc import dfdc
from forgerank.data.faceforensics import dfd, faceforensics
from forgerank.data.folder import Folder
from forgerank.data.onthefly import OnTheFlyForge
from forgerank.data.pack import Pack
from forgerank.data.packforge import PackForge
from forgerank.data.prepared import Prepared
from forgerank.data.sample import Source
from forgerank.data.seqdeepfake import SeqDeepFake
from forgerank.data.shards import Shards
from forgerank.data.wilddeepfake import wilddeepfake

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
