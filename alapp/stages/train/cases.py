"""Labelled images in nnU-Net's form: fingerprint them, preprocess those that are new."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from alapp.disk import patiently
from alapp.domain import Report
from alapp.environment import usable_cores
from alapp.errors import InputError
from alapp.stages.train.base import Case
from alapp.stages.train.targets import BORDER_CORE, encode, encode_known
from alapp.stages.train.workspace import Layout

_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FINGERPRINT_VOXELS = 1_000_000
_MOST_THREADS = 4
"""Cases that are preprocessed at a time, each in memory as a whole; resampling and compression leave the interpreter to
the others."""

_SUFFIXES = (".b2nd", "_seg.b2nd", ".pkl")


def to_nnunet(image: np.ndarray) -> np.ndarray:
    """(Y, X, C) or (Z, Y, X, C) as nnU-Net's float32 (C, Z, Y, X), with Z = 1 for 2D."""
    stack = image if image.ndim == 4 else image[None]
    return np.ascontiguousarray(np.moveaxis(stack, -1, 0), dtype=np.float32)


def load_case(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Image and int32 labels of a case. Raises `InputError` naming the case when they do not fit together."""
    if not _KEY.fullmatch(case.key):
        raise InputError(f"The case name {case.key!r} may hold only letters, digits, '_' and '-'.")
    image, labels = case.load()
    if image.ndim not in (3, 4) or labels.shape != image.shape[:-1]:
        raise InputError(
            f"Case {case.key}: the label map of shape {labels.shape} does not fit the image of shape {image.shape}."
        )
    if not np.isfinite(image).all():
        raise InputError(f"Case {case.key}: the image holds values that are not numbers (NaN or infinite).")
    return image, labels.astype(np.int32, copy=False)


def load_ignored(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """bool of `shape`: where nobody annotated the case. Raises `InputError` when it does not fit, or leaves nothing
    to learn from (nnU-Net's loss would be undefined)."""
    ignored = np.asarray(case.ignored(), bool)
    if ignored.shape != shape:
        raise InputError(
            f"Case {case.key}: the region that is not annotated has shape {ignored.shape}, the labels have {shape}."
        )
    if ignored.all():
        raise InputError(f"Case {case.key}: nothing of it is annotated, so nothing can be learned from it.")
    return ignored


def dataset_of(plan: dict[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    """nnU-Net's dataset.json for `cases`: that of the plan, with the ignore label if one of them needs it.

    The plan has none, so projects that were configured before stay as they are; the network is the same with it
    and without.
    """
    if all(case.ignored is None for case in cases):
        return plan["dataset"]
    return {**plan["dataset"], "labels": {**plan["dataset"]["labels"], "ignore": ignore_label(plan)}}


def ignore_label(plan: dict[str, Any]) -> int:
    """nnU-Net's ignore label: the number after the plan's classes."""
    return len(plan["dataset"]["labels"])


def fingerprint_part(image: np.ndarray, labels: np.ndarray, cases: int) -> dict[str, Any]:
    """What nnU-Net's fingerprint needs of one case: its shape and intensities below the objects.

    Same steps as `DatasetFingerprintExtractor.analyze_case`, from memory and without a pool of processes;
    1e6 voxels in all cases together instead of 1e8, which would take 2 GB.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

    data = to_nnunet(image)
    full = data.shape[1:]
    data, foreground, _ = crop_to_nonzero(data, (labels > 0).astype(np.int8).reshape(1, *full))
    intensities, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
        foreground, data, num_samples=max(1, _FINGERPRINT_VOXELS // cases)
    )
    return {
        "shape": [int(n) for n in data.shape[1:]],
        "share": float(np.prod(data.shape[1:]) / np.prod(full)),
        "intensities": [np.asarray(channel, dtype=np.float64) for channel in intensities],
    }


def fingerprint(parts: Sequence[dict[str, Any]], spacing: Sequence[float]) -> dict[str, Any]:
    """nnU-Net's dataset fingerprint from `fingerprint_part` of every case; `spacing` is (z, y, x)."""
    properties = {}
    for channel in range(len(parts[0]["intensities"])):
        values = np.concatenate([part["intensities"][channel] for part in parts])
        low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
        properties[str(channel)] = {
            "mean": float(values.mean()),
            "median": float(median),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile_99_5": float(high),
            "percentile_00_5": float(low),
        }
    return {
        "spacings": [[float(s) for s in spacing]] * len(parts),
        "shapes_after_crop": [part["shape"] for part in parts],
        "foreground_intensity_properties_per_channel": properties,
        "median_relative_size_after_cropping": float(np.median([part["share"] for part in parts])),
    }


def identifier(case: Case) -> str:
    """Name of the case's preprocessed files: its key and its content."""
    return f"{case.key}--{hashlib.sha256(case.hash.encode()).hexdigest()[:12]}"


def _ready(folder: Path, name: str) -> bool:
    return all((folder / f"{name}{suffix}").exists() for suffix in _SUFFIXES)


def prepare_cases(
    layout: Layout, plan: dict[str, Any], cases: Sequence[Case], report: Report, total: float
) -> list[str]:
    """Preprocesses the cases that are new or changed; returns the identifiers of all, in order.

    Files carry the hash of the content in their name and appear by renaming, the properties last, so a case
    that was being written when the process died is simply not there. `report(0, total, ...)` tells progress.
    """
    folder = layout.cases(plan["nnunet"]["configurations"][plan["configuration"]]["data_identifier"])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(layout.incoming, ignore_errors=True)
    layout.incoming.mkdir(parents=True, exist_ok=True)
    names = [identifier(case) for case in cases]
    if len({case.key for case in cases}) != len(cases):
        raise InputError("Two training cases have the same name; every case needs its own.")
    missing = [(case, name) for case, name in zip(cases, names, strict=True) if not _ready(folder, name)]
    if not missing:
        return names
    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        made = [pool.submit(_preprocess, plan, case, layout.incoming / name) for case, name in missing]
        try:
            for position, (case, name) in enumerate(missing):
                report(0, total, f"Preparing labelled patch {position + 1} of {len(missing)}")
                made[position].result()
                for suffix in _SUFFIXES:
                    patiently(os.replace, layout.incoming / f"{name}{suffix}", folder / f"{name}{suffix}")
                _forget_versions(folder, case.key, name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return names


def _forget_versions(folder: Path, key: str, keep: str) -> None:
    """Removes what was preprocessed from earlier content of the case `key`."""
    for path in folder.glob(f"{key}--*"):
        if not path.name.startswith(keep):
            path.unlink()


def _preprocess(plan: dict[str, Any], case: Case, target: Path) -> None:
    """Runs nnU-Net's preprocessor on one case and writes its three files at `target`."""
    import blosc2
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    image, labels = load_case(case)
    check_shape(plan, image, f"Case {case.key}")
    # Plans of earlier versions do not name the representation; it was always this one.
    scheme = plan.get("targets", BORDER_CORE)
    ignored = None if case.ignored is None else load_ignored(case, labels.shape)
    encoding = scheme, plan["border_px"], plan["border_in_plane"]
    if ignored is None:
        classes = encode(labels, *encoding).astype(np.int8)
    else:
        classes, ignored = encode_known(labels, ignored, *encoding)
        classes = np.where(ignored, ignore_label(plan), classes).astype(np.int8)
    manager = PlansManager(plan["nnunet"])
    configuration = manager.get_configuration(plan["configuration"])
    raw = to_nnunet(image)
    data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        raw,
        classes.reshape(1, *raw.shape[1:]),
        {"spacing": list(plan["spacing"])},
        manager,
        configuration,
        dataset_of(plan, [case]),
    )
    data, seg = data.astype(np.float32, copy=False), seg.astype(np.int16, copy=False)
    patch = tuple(configuration.patch_size)
    blocks, chunks = comp_blosc2_params(data.shape, patch, data.itemsize)
    seg_blocks, seg_chunks = comp_blosc2_params(seg.shape, patch, seg.itemsize)
    # Left to choose, nnU-Net compresses everything thrice, and slowly: a third of the time on two cores, for files that
    # are 3% smaller.
    nnUNetDatasetBlosc2.save_case(
        data, seg, properties, str(target), chunks=chunks, blocks=blocks, chunks_seg=seg_chunks, blocks_seg=seg_blocks,
        codec=blosc2.Codec.LZ4, filters=[blosc2.Filter.SHUFFLE], filters_seg=[blosc2.Filter.SHUFFLE],
    )  # fmt: skip


def check_shape(plan: dict[str, Any], image: np.ndarray, name: str) -> None:
    """Raises `InputError` when `image` has not the dimensions and channels that were planned for."""
    if image.ndim != plan["image_dimensions"] + 1:
        raise InputError(
            f"{name}: an image of shape {image.shape} is not {plan['image_dimensions']}D like the project's images."
        )
    if image.shape[-1] != plan["channels"]:
        raise InputError(f"{name}: the image has {image.shape[-1]} channels, the project's images {plan['channels']}.")
