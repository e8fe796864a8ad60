"""Names of results: kept for files that are known, and free of others' for new ones."""

from __future__ import annotations

from pathlib import Path

from alapp.rounds.apply.apply_names import Origin, names_of, origin


def names(files, known=None):
    paths = [Path(file) for file in files]
    return names_of(paths, [origin(path, False) for path in paths], known or {})


def test_results_of_files_that_differ_in_case_only_get_names_of_their_own():
    paths = ("one/Cell.tif", "two/cell.tif", "three/CELL.png", "b.ome.tif")
    assert names(paths) == ["Cell_tif", "cell_tif_2", "CELL_png", "b"]


def test_known_files_keep_their_names_when_others_of_the_name_come():
    known = {"a": Origin("/two", "a.tif"), "b": Origin("/one", "b.tif")}
    assert names(["/one/a.tif", "/one/A.png", "/one/b.tif", "/two/a.tif", "/three/a.tif"], known) == [
        "a_tif", "A_png", "b", "a", "a_tif_2",
    ]  # fmt: skip


def test_the_newest_of_two_names_counts():
    file = Origin("/one", "a.tif")
    assert names(["/one/a.tif"], {"a": file, "a_tif": file}) == ["a_tif"]
    assert names(["/one/a.tif"], {"a_tif": file, "a": file}) == ["a"]


def test_uploads_are_known_by_name_and_content(tmp_path):
    paths = [tmp_path / str(number) / "a.tif" for number in range(4)]
    for path, text in zip(paths, ("one", "two", "one", "three"), strict=True):
        path.parent.mkdir()
        path.write_text(text)
    found = [origin(path, True) for path in paths]
    assert found[0] == found[2] != found[1]
    # an upload of an earlier version, whose content is not known, keeps its results
    known = {"a": Origin("", "a.tif"), "a_tif_2": found[0]}
    assert names_of(paths, found, known) == ["a_tif_2", "a_tif", "a_tif_2", "a_tif_3"]
    (tmp_path / "0" / "a.tif").unlink()
    assert origin(paths[0], True) == Origin("", "a.tif")


def test_new_names_are_valid_everywhere_and_plain_ones_stay():
    long = "é" * 120
    paths = ["a b, c (1)", "a:b?", "con.x", long, "con", "\udcfc"]
    assert names([f"/one/{name}.tif" for name in paths]) == ["a b, c (1)", "a-b", "_con.x", "é" * 75, "con", "unnamed"]
    # known ones stay as they are, because their results are there
    assert names(["/one/a:b?.tif"], {"a:b?": Origin("/one", "a:b?.tif")}) == ["a:b?"]


def test_fields_of_plates_of_one_name_are_told_apart():
    assert names(["/one/p.zarr/A/1/0", "/two/p.zarr/A/1/0", "/two/p.zarr/A/2/0"]) == [
        "p_zarr_A_1_0", "p_zarr_A_1_0_2", "p_A_2_0",
    ]  # fmt: skip
