"""The current network as a folder that nnU-Net itself predicts from, without this app."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from alapp.domain import Report
from alapp.environment import prepare
from alapp.errors import CorruptFileError, NotReadyError
from alapp.rounds.train import rehearsal
from alapp.storage import models, verdicts
from alapp.storage.catalogue import Project
from alapp.storage.db import Store

TRAINER, PLANS, DATASET = "nnUNetTrainer", "nnUNetPlans", "Dataset001_objects"

_README = """{project}: nnU-Net v2 model ({configuration}), {rounds}.

Predict with nnU-Net 2.8 or newer, from a folder of TIFF files, one for each channel, named like {files}:

    nnUNetv2_predict_from_modelfolder -i IMAGES -o OUT -m {folder} -f 0 -chk checkpoint_final.pth
{spacing}
The network gives border-core classes: 0 background, 1 core, 2 border of an object. To get instances, label the
connected cores and grow each into the border around it; skimage.segmentation.watershed does that.
"""

_SPACING = """
Beside the files of each stack put a file image.json with its spacing (z, y, x) in pixels; the network learned at
{spacing}
"""


def members(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """Files of nnU-Net's results folder. Raises `NotReadyError` before the first model, `CorruptFileError` when
    its file is damaged."""
    checkpoint = verdicts.current_checkpoint(store, project.id)
    if checkpoint is None:
        raise NotReadyError("There is no model to export yet. Train one first.")
    store.files.verify(checkpoint.path, checkpoint.sha256)
    report(0, 2, "Reading the model")
    plan = json.loads((store.root / models.plan(store, checkpoint.plan_id).workspace / "plan.json").read_text("utf-8"))
    folder = f"{DATASET}/{TRAINER}__{PLANS}__{plan['configuration']}"
    flat = plan["image_dimensions"] == 2
    # The app plans on arrays in memory; on files, flat images need the reader for flat images.
    plans = plan["nnunet"] | ({"image_reader_writer": "NaturalImage2DIO"} if flat else {})
    yield f"{folder}/plans.json", json.dumps(plans, indent=1).encode()
    yield f"{folder}/dataset.json", json.dumps(plan["dataset"], indent=1).encode()
    report(1, 2, "Writing the model")
    yield f"{folder}/fold_0/checkpoint_final.pth", _nnunet_checkpoint(store, checkpoint.path, plan)
    seen = rehearsal.learned_from(checkpoint.n_cases, checkpoint.n_rehearsed)
    learned = f"trained on {seen}, {checkpoint.iterations} iterations"
    readme = _README.format(
        project=project.name,
        configuration=plan["configuration"],
        rounds=learned,
        folder=folder,
        files="image_0000.tif" if plan["channels"] == 1 else f"image_0000.tif to image_{plan['channels'] - 1:04d}.tif",
        spacing="" if flat else _SPACING.format(spacing=json.dumps({"spacing": plan["spacing"]})),
    )
    yield "README.txt", readme.encode()


def _nnunet_checkpoint(store: Store, path: str, plan: dict[str, Any]) -> bytes:
    """The checkpoint with the keys that `nnUNetPredictor.initialize_from_trained_model_folder` reads."""
    prepare()
    import torch

    from alapp.stages.train.checkpoints import read_checkpoint

    content = read_checkpoint(store.files.resolve(path))
    if content is None:
        raise CorruptFileError(f"The model {path} is damaged. Train again, or choose another one.")
    buffer = io.BytesIO()
    torch.save(
        {
            "network_weights": content["network_weights"],
            "trainer_name": TRAINER,
            "init_args": {"configuration": plan["configuration"], "fold": 0},
            "inference_allowed_mirroring_axes": tuple(content["inference_allowed_mirroring_axes"]),
        },
        buffer,
    )
    return buffer.getvalue()
