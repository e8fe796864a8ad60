from alapp.wording import counted, is_or_are


def test_one_and_several():
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert [counted(n, "patch", "patches") for n in (1, 5)] == ["1 patch", "5 patches"]
    assert [is_or_are(n) for n in (0, 1, 2)] == ["are", "is", "are"]
