"""Where the published data sets are, and how to tell that a file is the published one.

MP-20, Perov-5 and Carbon-24 with the splits of CDVAE (Xie et al., arXiv:2110.06197) and MPTS-52
(Baird et al.) come from the repository of FlowMM (Miller et al., arXiv:2406.04713), Alex-MP-20 from
that of MatterGen (Zeni et al., arXiv:2312.03687).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FLOWMM = "https://media.githubusercontent.com/media/facebookresearch/flowmm/main/data"
_MATTERGEN = "https://media.githubusercontent.com/media/microsoft/mattergen/main/data-release"


@dataclass(frozen=True)
class PublishedFile:
    """A file and its content.

    Attributes:
        address: Where it is.
        sha256: Hash of its content, hexadecimal; "" if unknown.
        num_bytes: Its size; 0 if unknown.
    """

    address: str
    sha256: str = ""
    num_bytes: int = 0


def _splits(name: str, **files: tuple[str, int]) -> Mapping[str, PublishedFile]:
    """The files of a set in FlowMM's repository: hash and bytes of each split."""
    return {
        f"{split}.csv": PublishedFile(f"{_FLOWMM}/{name}/{split}.csv", sha256, num_bytes)
        for split, (sha256, num_bytes) in files.items()
    }


PUBLISHED: Mapping[str, Mapping[str, PublishedFile]] = {
    "mp_20": _splits(
        "mp_20",
        train=("9c5a34b3684ff4b86d87a86c1c42298d1d28322ea0f03059d9e80ab6a2b729a7", 80920549),
        val=("68e101e777c168429d84feb5bf1c5432f1a1b625884f72499c54c4d68e7ee73a", 26864684),
        test=("6d63e5d7a607866d94014b3e8ae34f0b9f4d6a2b2332bbc50fd3ec976f487231", 26846148),
    ),
    "perov_5": _splits(
        "perov_5",
        train=("6144a97ead4828a781a1c269c56fedc34b65945977c6433a055a720c47bf77f6", 21695296),
        val=("efb9c832756439747f093e03a35daf073fcc9a5fc43a8a5292addee2f3d7ce90", 7233118),
        test=("2511340f0e08b25699e9386e100ae0b30cd9b9c8a5b29622c3533644e04c95fa", 7229328),
    ),
    "carbon_24": _splits(
        "carbon_24",
        train=("79b4465695d82b23abb56e9b855ac4841eb991ff3e0952a44b0ca3857e1a304a", 15214751),
        val=("1ef0279de77d1295f6ad58e96d0a1a45cc1c19c59495a1a141772b800ef8cf1d", 5068178),
        test=("7848efedac61551d67e56444ad782d5bfe801e4f9997d34413f5b25980c1e0be", 5075854),
    ),
    "mpts_52": _splits(
        "mpts_52",
        train=("db33cfc86530bbd4b020405989c5cd12130f447ad7b9258d29b3ff9c8a26d764", 45705353),
        val=("b5d9f7a8ff72f3a1f24d6bb97e11ad201be40d10be7b27924234da06af04baba", 9941357),
        test=("4d6e76c4726fb12fb2a7e5bb23594f9b82dbd9bf67b7bfd4866e9c74a8f49038", 16358482),
    ),
    "alex_mp_20": {
        "alex_mp_20.zip": PublishedFile(
            f"{_MATTERGEN}/alex-mp/alex_mp_20.zip",
            "6688e652e45fac4ac8b016dbc4a3280afde9ba687bdacfd8c676775ed19b6228",
            186506244,
        )
    },
}
"""The files of each data set by name: a CSV for each split, or a zip of them."""
