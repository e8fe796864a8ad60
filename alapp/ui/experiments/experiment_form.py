"""What an experiment compares, as its user says it: the form on the Experiments tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from alapp.domain import ImageRole, Modality, Preset
from alapp.errors import InputError, NotReadyError
from alapp.experiments import outlook, sources, wording
from alapp.experiments.corruption import REFERENCE
from alapp.experiments.study import CHAIN, SCHEDULES, SINGLE, Source, Study
from alapp.stages.sample import SAMPLES
from alapp.stages.select.base import SELECTORS
from alapp.storage.db import Store
from alapp.ui.quiet import QUIET
from alapp.ui.rounds import strategies

SAMPLE, FOLDERS, PROJECT = "sample", "folders", "project"
FROM = [("A sample", SAMPLE), ("Folders on this computer", FOLDERS), ("The open project's reference masks", PROJECT)]
MODALITIES = [("Light microscopy", Modality.LIGHT.value), ("Electron microscopy", Modality.EM.value)]
PRESETS = [("Quick", Preset.QUICK.value), ("Standard", Preset.STANDARD.value), ("Full", Preset.FULL.value)]
STARTS = [
    ("Pre-trained on pseudo-labels", "auto"),
    ("Not pre-trained", "none"),
    ("Pre-trained on perfect labels", REFERENCE),
]
DAMAGES = [(title[:1].upper() + title[1:], name) for name, title in wording.DAMAGE.items()]
MOST_SEEDS, MOST_FRAMES = 20, 200


def lay_out() -> dict[str, Any]:
    """The fields by name, in the context that is open, as `study_of` takes their values."""
    fields: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(min_width=420):
            fields |= _images()
            fields |= _training()
        with gr.Column(min_width=420):
            fields |= _compared()
    return fields


def _images() -> dict[str, Any]:
    name = gr.Textbox(label="Name of the experiment", max_lines=1, elem_id="experiment-name")
    origin = gr.Radio(FROM, value=SAMPLE, label="Labelled images", elem_id="experiment-from")
    with gr.Row() as samples:
        sample = gr.Dropdown(
            [(info.title, key) for key, info in SAMPLES.items()],
            value=next(iter(SAMPLES)),
            label="Sample",
            filterable=False,
        )
        frames = gr.Number(
            label="Images of it", info="0: as in its project.", value=0, precision=0, minimum=0,
            elem_id="experiment-frames",
        )  # fmt: skip
    with gr.Column(visible=False) as folders:
        images = gr.Textbox(label="Folder of images", max_lines=1, elem_id="experiment-images")
        labels = gr.Textbox(
            label="Folder of instance maps",
            info="The same file names; 0 is background, every other number one object.",
            max_lines=1,
            elem_id="experiment-labels",
        )
        with gr.Row():
            test_images = gr.Textbox(label="Folder of test images", info="Empty: the last quarter.", max_lines=1)
            test_labels = gr.Textbox(label="Folder of their instance maps", info="Empty as well.", max_lines=1)
        with gr.Row():
            modality = gr.Dropdown(MODALITIES, value=Modality.LIGHT.value, label="Made by", filterable=False)
            patch = gr.Number(label="Patch size (pixels)", value=256, precision=0, minimum=32)
            depth = gr.Number(label="Patch depth (slices)", info="For stacks.", value=1, precision=0, minimum=1)
    origin.change(
        lambda chosen: [gr.Row(visible=chosen == SAMPLE), gr.Column(visible=chosen == FOLDERS)],
        origin,
        [samples, folders],
        **QUIET,
    )
    return {
        "name": name, "origin": origin, "sample": sample, "frames": frames, "images": images, "labels": labels,
        "test_images": test_images, "test_labels": test_labels, "modality": modality, "patch": patch, "depth": depth,
    }  # fmt: skip


def _compared() -> dict[str, Any]:
    names = [(SELECTORS.load(name).title, name) for _, name in strategies.choices()]
    chosen = gr.CheckboxGroup(
        names,
        value=["auto", "coreset", "random"],
        label="Strategies",
        info="The Rounds tab tells what each does.",
        elem_id="experiment-strategies",
    )
    with gr.Row():
        budgets = gr.Textbox(
            label="Labelled patches", info="Numbers, or shares like 6.25%.", value="16, 32, 64, 128", max_lines=1,
            elem_id="experiment-budgets",
        )  # fmt: skip
        seeds = gr.Number(
            label="Repetitions", info="With other random numbers; 3 or more tell chance from a difference.", value=3,
            precision=0, minimum=1, maximum=MOST_SEEDS, elem_id="experiment-seeds",
        )  # fmt: skip
    starts = gr.CheckboxGroup(STARTS, value=["auto"], label="Pre-training", elem_id="experiment-starts")
    return {
        "strategies": chosen, "budgets": budgets, "seeds": seeds, "starts": starts, **_damage(),
    }  # fmt: skip


def _damage() -> dict[str, Any]:
    with gr.Accordion("Pre-training on wrong labels", open=False):
        damages = gr.CheckboxGroup(
            DAMAGES, value=[], label="Pre-training on labels with errors made on purpose", elem_id="experiment-damages"
        )
        with gr.Row():
            strength = gr.Slider(
                0.1, 1, value=0.5, step=0.1, label="How strong",
                info="Share of the objects; diameters for shifted ones.",
            )  # fmt: skip
            damaged = gr.Radio(
                [("Perfect labels", REFERENCE), ("Pseudo-labels", "auto")], value=REFERENCE, label="Errors in"
            )
    return {"damages": damages, "strength": strength, "damaged": damaged}


def _training() -> dict[str, Any]:
    with gr.Accordion("Training and time", open=False):
        schedules = gr.CheckboxGroup(
            [(wording.SCHEDULES[name][:1].upper() + wording.SCHEDULES[name][1:], name) for name in SCHEDULES],
            value=[CHAIN],
            label="Training",
            info="Round after round goes on from the model with fewer labels; all at once starts from pre-training.",
        )
        full = gr.Checkbox(value=True, label="Also train on every patch, to compare with")
        with gr.Row():
            preset = gr.Radio(PRESETS, value=Preset.QUICK.value, label="How long a round trains")
            iterations = gr.Number(
                label="Iterations of a round", info="0: as the preset says.", value=0, precision=0, minimum=0,
                elem_id="experiment-iterations",
            )  # fmt: skip
        workers = gr.Slider(
            1, max(2, outlook.processes()), value=outlook.processes(), step=1, label="Runs at the same time",
            info="They share the cores; each needs its own memory.", elem_id="experiment-workers",
        )  # fmt: skip
    return {
        "schedules": schedules, "full": full, "preset": preset, "iterations": iterations, "workers": workers,
    }  # fmt: skip


def origins(store: Store, project_id: int | None) -> gr.Radio:
    """Where images may come from: the project only if it has reference masks."""
    masks = project_id is not None and sources.labelled_images(store, project_id, ImageRole.TRAIN)
    return gr.Radio(choices=FROM if masks else FROM[:-1])


def study_of(store: Store, project_id: int | None, said: Mapping[str, Any]) -> Study:
    """The study that the fields describe. Raises `InputError` for what cannot be."""
    try:
        preset = Preset(said["preset"])
    except ValueError:
        raise InputError("Choose how long a round trains.") from None
    schedules = tuple(name for name in (CHAIN, SINGLE) if name in (said["schedules"] or ()))
    for chosen, what in ((said["strategies"], "strategy"), (schedules, "way of training")):
        if not chosen:
            raise InputError(f"Choose at least one {what}.")
    starts = wording.starts_of(
        said["starts"] or (), said["damages"] or (), float(said["strength"] or 0), str(said["damaged"])
    )
    if not starts:
        raise InputError("Choose at least one pre-training; “Not pre-trained” is one, too.")
    return Study(
        source=_source(store, project_id, said),
        budgets=wording.budgets_of(said["budgets"] or ""),
        strategies=tuple(name for name in SELECTORS if name in said["strategies"]),
        starts=starts,
        schedules=schedules,
        seeds=tuple(range(_whole(said["seeds"], "Repetitions", 1, MOST_SEEDS))),
        full=bool(said["full"]),
        preset=preset,
        iterations=_whole(said["iterations"] or 0, "Iterations of a round", 0, 1_000_000) or None,
    )


def workers_of(said: Mapping[str, Any]) -> int:
    """How many runs at the same time."""
    return _whole(said["workers"], "Runs at the same time", 1, 64)


def _source(store: Store, project_id: int | None, said: Mapping[str, Any]) -> Source:
    if said["origin"] == SAMPLE:
        return sources.of_sample(said["sample"], _whole(said["frames"] or 0, "Images of the sample", 0, MOST_FRAMES))
    if said["origin"] == PROJECT:
        if project_id is None:
            raise NotReadyError("Open a project with reference masks first, or choose other images.")
        return sources.of_project(store, project_id)
    images, labels = _path(said["images"]), _path(said["labels"])
    if not images or not labels:
        raise InputError("Name the folder of images and the folder of their instance maps.")
    return Source(
        images=images,
        labels=labels,
        test_images=_path(said["test_images"]),
        test_labels=_path(said["test_labels"]),
        modality=Modality(said["modality"]),
        patch=_whole(said["patch"], "Patch size", 32, 4096),
        depth=_whole(said["depth"], "Patch depth", 1, 1024),
    )


def _path(text: Any) -> str | None:
    return wording.folder_of(str(text or ""))


def _whole(value: Any, what: str, least: int, most: int) -> int:
    if not isinstance(value, (int, float)) or value != int(value) or not least <= value <= most:
        raise InputError(f"{what} must be a whole number from {least} to {most:,}.")
    return int(value)
