"""Names of files: valid on Linux, macOS and Windows, and no two alike."""

import unicodedata

import pytest

from alapp.rounds.export.export_names import MOST_BYTES, distinct, slug


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("cell_03", "cell_03"),
        ("cell (1)", "cell-1"),
        ("../a\\b:c*?", "a-b-c"),
        ("Zelle_ä", "Zelle_ä"),
        ("细胞 2", "细胞-2"),
        ("हिन्दी", "हिन्दी"),
        ("10 µm²", "10-µm²"),
        ("trailing. ", "trailing"),
        (".hidden", "hidden"),
        ("?", "unnamed"),
        ("", "unnamed"),
        ("con", "_con"),
        ("Nul.ome", "_Nul.ome"),
        ("LPT¹", "_LPT¹"),
        ("COM10", "COM10"),
        ("console", "console"),
    ],
)
def test_slugs(name, made):
    assert slug(name) == made


def test_slugs_are_composed_and_short():
    assert slug(unicodedata.normalize("NFD", "Zelle_ä")) == unicodedata.normalize("NFC", "Zelle_ä")
    for long in ("a" * 300, "细" * 300, "a" * (MOST_BYTES - 1) + "细 b"):
        assert long.startswith(slug(long))
        assert MOST_BYTES - 3 < len(slug(long).encode()) <= MOST_BYTES


def test_names_that_are_one_file_on_windows_or_macos_get_numbers():
    assert distinct(["a", "A", "b", "a_2", "a"]) == ["a", "A_2", "b", "a_2_2", "a_3"]
    assert distinct(["straße", "STRASSE"]) == ["straße", "STRASSE_2"]
    composed, decomposed = (unicodedata.normalize(form, "ä") for form in ("NFC", "NFD"))
    assert distinct([composed, decomposed]) == [composed, f"{decomposed}_2"]
