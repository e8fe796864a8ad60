"""Fast stand-ins for the network and the embedder: real arrays in and out, no torch."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
from scipy import ndimage

from alapp.domain import BackendState, Status
from alapp.stages.train.base import EpochLog, PlanSummary, TrainResult


class ThresholdTrainer:
    """Learns one number, the gray value between the foreground and the background of its cases."""

    seen: list = []  # noqa: RUF012  (the tests look at what was trained on)

    def __init__(self, mirroring=True, timing=None, overlap=0.5):
        self.mirroring = mirroring

    def plan(self, workspace, cases, preset, machine, report, overrides=None):
        workspace.mkdir(parents=True, exist_ok=True)
        return PlanSummary(
            configuration="2d",
            patch_size=(64, 64),
            batch_size=2,
            n_stages=3,
            features=(8, 16, 32),
            downsampling=1.0,
            object_diameter_px=12.0,
            border_px=1,
            iterations={"pretrain": 4, "round": 6},
            sentence="A threshold.",
        )

    def plan_suits(self, workspace, cases, machine):
        return True

    def same_spacing(self, workspace, cases):
        return True

    def same_network(self, workspace, other):
        return True

    def train(self, workspace, cases, out, iterations, seed, start_from, report, log, options=None):
        type(self).seen.append(
            {
                "keys": [case.key for case in cases],
                "start_from": start_from,
                "iterations": iterations,
                "weights": (options or {}).get("weights"),
            }
        )
        inside, outside = [], []
        for case in cases:
            image, labels = case.load()
            assert image.shape[:-1] == labels.shape
            inside.append(image[..., 0][labels > 0])
            outside.append(image[..., 0][labels == 0])
        for step in range(iterations):
            report(step, iterations, "loss 0.5")
        log(EpochLog(0, iterations, 0.5, 0.01, 1.0))
        out.mkdir(parents=True, exist_ok=True)
        path = out / "final.json"
        threshold = (np.concatenate(inside).mean() + np.concatenate(outside).mean()) / 2
        path.write_text(json.dumps({"threshold": float(threshold), "seed": seed}))
        return TrainResult(path, iterations, 1.0)

    def predict(self, workspace, checkpoint, image, report):
        foreground = image[..., 0] > json.loads(checkpoint.read_text())["threshold"]
        core = ndimage.binary_erosion(foreground)
        classes = np.stack([~foreground, core, foreground & ~core])
        return classes.astype(np.float32)

    def mirrored(self, workspace, checkpoint, image, report):
        y, x = image.ndim - 3, image.ndim - 2
        for axes in ((), (y,), (x,), (y, x)):
            found = self.predict(workspace, checkpoint, np.flip(image, axes), report)
            yield np.flip(found, [axis + 1 for axis in axes])

    @contextmanager
    def blocks(self, workspace, checkpoint, image, is_3d, report):
        def predict(box, inner):
            margins = [(max(0, part.start - 1), part.stop + 1) for part in box.slices]
            seen = [(a, min(b, n)) for (a, b), n in zip(margins, image.shape, strict=False)]
            pixels = np.asarray(image[tuple(slice(a, b) for a, b in seen)])
            stack = [self.predict(workspace, checkpoint, plane, inner) for plane in pixels]
            cut = tuple(slice(p.start - a, p.stop - a) for p, (a, _) in zip(box.slices, seen, strict=True))
            return np.stack(stack, 1)[(slice(None), *cut)]

        yield predict


class MeanEmbedder:
    """Mean and spread of the gray values, unit length."""

    title, suits, trains = "means", "tests", True
    fitted: list = []  # noqa: RUF012

    def __init__(self, seed=0):
        self.scale = 1.0

    @classmethod
    def status(cls):
        return Status(BackendState.READY)

    def fit(self, patches, report, state=None):
        type(self).fitted.append(len(patches))
        report(1, 1, "")

    def embed(self, patches, report):
        raw = np.array([[patch.mean(), patch.std(), 1.0] for patch in patches], dtype=np.float32)
        report(1, 1, "")
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    def save(self, path):
        path.write_text("{}")

    def load(self, path):
        json.loads(path.read_text())


class ThresholdEmbedder(MeanEmbedder):
    """What the threshold of `ThresholdTrainer` sees; counts what it embedded."""

    title, suits, trains = "threshold", "tests", False
    embedded: list = []  # noqa: RUF012

    def __init__(self, seed=0, network=None):
        self.network = network

    def fit(self, patches, report, state=None):
        assert self.network.checkpoint.exists()

    def embed(self, patches, report):
        type(self).embedded.append(len(patches))
        threshold = json.loads(self.network.checkpoint.read_text())["threshold"]
        raw = np.array([[(patch > threshold).mean(), threshold / 255, 1.0] for patch in patches], dtype=np.float32)
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)
