"""Every published foundation model that the app can fetch: its files, licence and what it suits.

Hashes and addresses of micro_sam are those of its own registry (`micro_sam.util.models()`, version 1.8.14), those of
CellSAM of its `_auth` module (version 1.2), those of SAM 2 of Meta's release 2.1 of 2024-09-28. Importing them from
the packages would import torch, so they are copied here; a test compares them with the installed micro_sam.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alapp.domain import Modality
from alapp.errors import InputError
from alapp.stages.foundation import folders

SHEET = "Models on this computer"
"""What the page calls the list of all models."""

MICRO_SAM, CELLSAM, SAM2 = "micro_sam", "cellsam", "sam2"

BOTH = frozenset(Modality)
LIGHT = frozenset({Modality.LIGHT})
EM = frozenset({Modality.EM})


@dataclass(frozen=True)
class WeightsFile:
    """A file to fetch. `name` is its name in the backend's folder; `size` in bytes, `exact` unless it is an estimate.

    `url` is "" where the server of DeepCell has to be asked for it. `checksum` is "algorithm:hexadecimal digits" of
    xxh128, sha256 or md5.
    """

    name: str
    url: str
    checksum: str
    size: int
    exact: bool = False


@dataclass(frozen=True)
class Model:
    """A published model. `architecture` is "vit_t", "vit_b", ... for micro_sam, the size for SAM 2, "" else.

    `files` are fetched; `unpacked` is what lies in the folder afterwards, where the file is an archive. `needs` are
    modules that must be installed. `terms`: the licence has to be accepted before the model may be used.
    """

    name: str
    backend: str
    title: str
    suits: str
    licence: str
    modalities: frozenset[Modality]
    files: tuple[WeightsFile, ...]
    architecture: str = ""
    needs: tuple[str, ...] = ()
    terms: bool = False
    clicks: bool = True
    automatic: bool = False
    unpacked: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to fetch, all files together."""
        return sum(file.size for file in self.files)

    @property
    def folder(self) -> Path:
        """Where its files lie on this computer."""
        return folders.of_backend(self.backend)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where each of its files belongs on this computer: the weights first, then the decoder if it has one."""
        return tuple(self.folder / name for name in self.unpacked or tuple(file.name for file in self.files))

    @property
    def present(self) -> bool:
        """Whether every file is there, checked or not."""
        return all(path.is_file() for path in self.paths)


_EBI = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
_GWDG = "https://owncloud.gwdg.de/index.php/s/"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_META2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"

_SIZES = {"vit_t": 40_728_226, "vit_b": 375_042_383, "vit_l": 1_249_524_607, "vit_h": 2_564_550_879}
"""Bytes of the original weights of each architecture; fine-tuned ones are about as large."""
_DECODER_SIZE = 38_400_000
"""About; that of the decoder that micro_sam 1.8.14 builds."""

_WORDS = {"vit_t": "tiny", "vit_b": "base", "vit_l": "large", "vit_h": "huge"}
_SPEEDS = {
    "vit_t": "The fastest, also without a GPU.",
    "vit_b": "More accurate than tiny, ten times slower without a GPU.",
    "vit_l": "For a GPU.",
    "vit_h": "For a large GPU.",
}
_APACHE = "Apache 2.0: free for any use."
_CC_BY = "Creative Commons BY 4.0: free for any use that names the authors (Archit et al. 2025)."
_UNSTATED = "Published by the authors of micro_sam without a licence of its own; ask them before any use but research."
_CELLSAM = (
    "Modified Apache 2.0, for academic, non-commercial use only: "
    "https://github.com/vanvalenlab/cellSAM/blob/master/LICENSE.md"
)


def _micro_sam(name: str, title: str, suits: str, licence: str, modalities: frozenset[Modality], *files: str) -> Model:
    """`files` are "address digest" of the weights and, if there is one, of the decoder."""
    architecture = name[:5]
    original = name == architecture
    sizes = (_SIZES[architecture], _DECODER_SIZE)
    made = []
    for file, text, size in zip((name, f"{name}_decoder"), files, sizes, strict=False):
        url, digest = text.split()
        made.append(WeightsFile(file, url, f"xxh128:{digest}", size, exact=original))
    return Model(
        name=name,
        backend=MICRO_SAM,
        title=f"{title}, {_WORDS[architecture]}",
        suits=f"{suits} {_SPEEDS[architecture]}",
        licence=licence,
        modalities=modalities,
        files=tuple(made),
        architecture=architecture,
        needs=("micro_sam", "mobile_sam") if architecture == "vit_t" else ("micro_sam",),
        automatic=len(made) > 1,
    )


def _light(name: str, *files: str) -> Model:
    suits = "Cells and nuclei in light microscopy, by clicks and all at once."
    return _micro_sam(name, "micro_sam for light microscopy", suits, _CC_BY, LIGHT, *files)


def _organelles(name: str, *files: str) -> Model:
    suits = "Mitochondria and nuclei in electron microscopy, by clicks and all at once."
    return _micro_sam(name, "micro_sam for organelles", suits, _CC_BY, EM, *files)


def _tissue(name: str, *files: str) -> Model:
    suits = "Nuclei in stained tissue (H&E), by clicks and all at once."
    return _micro_sam(name, "micro_sam for histopathology", suits, _UNSTATED, LIGHT, *files)


def _general(name: str, *files: str) -> Model:
    return _micro_sam(
        name, "Segment Anything", "Any object, by clicks; not trained on microscopy.", _APACHE, BOTH, *files
    )


def _sam2(size: str, word: str, speed: str, length: int, digest: str) -> Model:
    name = f"sam2.1_hiera_{size}"
    return Model(
        name=name,
        backend=SAM2,
        title=f"SAM 2, {word}",
        suits=f"Any object, by clicks; not trained on microscopy. {speed}",
        licence=_APACHE,
        modalities=BOTH,
        files=(WeightsFile(f"{name}.pt", f"{_META2}{name}.pt", f"sha256:{digest}", length, exact=True),),
        architecture=size,
        needs=("sam2",),
    )


_EVERY = (
    _light(
        "vit_t_lm",
        f"{_EBI}faithful-chicken/1.1/files/vit_t.pt 72ec5074774761a6e5c05a08942f981e",
        f"{_EBI}faithful-chicken/1.1/files/vit_t_decoder.pt 3e914a5f397b0312cdd36813031f8823",
    ),
    _light(
        "vit_b_lm",
        f"{_EBI}diplomatic-bug/1.2/files/vit_b.pt fe9252a29f3f4ea53c15a06de471e186",
        f"{_EBI}diplomatic-bug/1.2/files/vit_b_decoder.pt 708b15ac620e235f90bb38612c4929ba",
    ),
    _light(
        "vit_l_lm",
        f"{_EBI}idealistic-rat/1.2/files/vit_l.pt 017f20677997d628426dec80a8018f9d",
        f"{_EBI}idealistic-rat/1.2/files/vit_l_decoder.pt 2faeafa03819dfe03e7c46a44aaac64a",
    ),
    _organelles(
        "vit_t_em_organelles",
        f"{_EBI}greedy-whale/1/files/vit_t.pt 253474720c497cce605e57c9b1d18fd9",
        f"{_EBI}greedy-whale/1/files/vit_t_decoder.pt 8f897c7bb93174a4d1638827c4dd6f44",
    ),
    _organelles(
        "vit_b_em_organelles",
        f"{_EBI}noisy-ox/1.2/files/vit_b.pt f3bf2ed83d691456bae2c3f9a05fb438",
        f"{_EBI}noisy-ox/1.2/files/vit_b_decoder.pt bb6398956a6b0132c26b631c14f95ce2",
    ),
    _organelles(
        "vit_l_em_organelles",
        f"{_EBI}humorous-crab/1.2/files/vit_l.pt 810b084b6e51acdbf760a993d8619f2d",
        f"{_EBI}humorous-crab/1.2/files/vit_l_decoder.pt 334877640bfdaaabce533e3252a17294",
    ),
    Model(
        name="cellsam_v1.2",
        backend=CELLSAM,
        title="CellSAM 1.2",
        suits="Cells and nuclei of many kinds in light microscopy, all at once. Half a minute an image without a GPU.",
        licence=_CELLSAM,
        modalities=LIGHT,
        files=(WeightsFile("cellsam-models_v1.2.tar.gz", "", "md5:f41e6899c49fc8ce12f77a8d25594604", 1_200_000_000),),
        needs=("cellSAM", "kornia", "dask_image", "distributed"),
        terms=True,
        clicks=False,
        automatic=True,
        unpacked=("cellsam_v1.2/cellsam_general.pt",),
    ),
    _sam2(
        "tiny",
        "tiny",
        "A few seconds an image without a GPU.",
        156_008_466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    _sam2(
        "small",
        "small",
        "Somewhat slower than tiny.",
        184_416_285,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    _sam2(
        "base_plus",
        "base",
        "For a GPU.",
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    _sam2(
        "large", "large", "For a GPU.", 898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"
    ),
    _general("vit_t", f"{_GWDG}TuDzuwVDHd1ZDnQ/download 8eadbc88aeb9d8c7e0b4b60c3db48bd0"),
    _general("vit_b", f"{_META}sam_vit_b_01ec64.pth 6923c33df3637b6a922d7682bfc9a86b"),
    _general("vit_l", f"{_META}sam_vit_l_0b3195.pth a82beb3c660661e3dd38d999cc860e9a"),
    _general("vit_h", f"{_META}sam_vit_h_4b8939.pth 97698fac30bd929c2e6d8d8cc15933c2"),
    _tissue(
        "vit_b_histopathology",
        f"{_GWDG}sBB4H8CTmIoBZsQ/download ffd1a2cd84570458b257bd95fdd8f974",
        f"{_GWDG}KO9AWqynI7SFOBj/download 6a66194dcb6e36199cbee2214ecf7213",
    ),
    _tissue(
        "vit_l_histopathology",
        f"{_GWDG}IZgnn1cpBq2PHod/download b591833c89754271023e901281dee3f2",
        f"{_GWDG}oIs6VSmkOp7XrKF/download 46aab7765d4400e039772d5a50b55c04",
    ),
    _tissue(
        "vit_h_histopathology",
        f"{_GWDG}L7AcvVz7DoWJ2RZ/download bd1856dafc156a43fb3aa705f1a6e92e",
        f"{_GWDG}1qAKxy5H0jgwZvM/download 3ed9f87e46ad5e16935bd8d722c8dc47",
    ),
    _micro_sam(
        "vit_b_medical_imaging",
        "micro_sam for medical imaging",
        "Organs and lesions in CT, MRI and other medical images, by clicks and all at once.",
        _UNSTATED,
        BOTH,
        f"{_GWDG}f5Ol4FrjPQWfjUF/download 40169f1e3c03a4b67bff58249c176d92",
        f"{_GWDG}ahd3ZhZl2e0RIwz/download 9e498b12f526f119b96c88be76e3b2ed",
    ),
)

MODELS: dict[str, Model] = {model.name: model for model in _EVERY}
"""By name, in the order in which a page shows them: the most fitting and fastest first."""


def model(name: str) -> Model:
    """The published model called `name`. Raises `InputError` if there is none."""
    if name not in MODELS:
        raise InputError(f"There is no published model called {name!r}. Choose one of: {', '.join(MODELS)}.")
    return MODELS[name]


def how_to_get(name: str) -> str:
    """What the user can do where the weights of `name` are missing, as a sentence."""
    return f"Download {name} under “{SHEET}”, or run: python -m alapp models download {name}"


def how_to_accept(name: str) -> str:
    """What the user can do where the licence of `name` is not accepted, as a sentence."""
    return f"If that is your use, accept it under “{SHEET}”, or run: python -m alapp models accept {name}"


def fit_for(modality: Modality | None, backend: str = MICRO_SAM) -> list[Model]:
    """The models of `backend` that were trained for `modality` (or any), the fastest first."""
    found = [each for each in MODELS.values() if each.backend == backend]
    return [each for each in found if modality is None or modality in each.modalities]
