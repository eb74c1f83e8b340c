"""The data sets that a config can name."""

from collections.abc import Callable

from forgerank.data.onthefly import OnTheFlyForge
from forgerank.data.sample import Source
from forgerank.data.seqdeepfake import SeqDeepFake

# Each is called as (root, split) with the config's `options` as keywords.
DATASETS: dict[str, Callable[..., Source]] = {"seqdeepfake": SeqDeepFake, "forge": OnTheFlyForge}
