"""Pictures from a folder."""

from pathlib import Path

import pytest
from PIL import Image

from camera_sim.encoding import encode
from camera_sim.sources.folder import Folder, read_picture
from camera_sim.sources.picture import Picture


def draw(path: Path, mode: str = "L", size: tuple[int, int] = (4, 3)) -> Path:
    """Write a small picture file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 1).save(path)
    return path


def taken(source: Folder, count: int) -> list[Picture]:
    """The next pictures."""
    pictures = [source.next() for _ in range(count)]
    return [picture for picture in pictures if picture is not None]


def test_a_folder_is_a_loop_sorted_by_name(tmp_path: Path) -> None:
    """After the last picture comes the first; other files are ignored."""
    for name in ("b.png", "a.jpg", "c.bmp"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    folder = Folder(tmp_path)
    assert [picture.name for picture in taken(folder, 4)] == ["a.jpg", "b.png", "c.bmp", "a.jpg"]
    assert str(folder) == f"folder {tmp_path}: 3 pictures"


def test_truth_comes_from_the_table(tmp_path: Path) -> None:
    """`truth.csv` overrides the names of sub-folders; a picture that is not in it has no truth."""
    draw(tmp_path / "x" / "a.png")
    draw(tmp_path / "x" / "b.png")
    (tmp_path / "truth.csv").write_text("file,label\nx/a.png,7\n")
    assert [picture.truth for picture in taken(Folder(tmp_path), 2)] == ["7", None]


def test_without_a_table_truth_is_the_name_of_the_sub_folder(tmp_path: Path) -> None:
    """A picture outside a sub-folder has no truth."""
    draw(tmp_path / "3" / "a.png")
    draw(tmp_path / "z.png")
    assert [picture.truth for picture in taken(Folder(tmp_path), 2)] == ["3", None]


def test_a_table_without_its_header_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pictures then have no truth, and the log names the cure."""
    draw(tmp_path / "a.png")
    (tmp_path / "truth.csv").write_text("a.png,7\n")
    assert taken(Folder(tmp_path), 1)[0].truth is None
    assert "file,label" in caplog.text


def test_unreadable_pictures_are_counted_skipped_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken file costs one log line and does not end the run."""
    (tmp_path / "a.png").write_bytes(b"no picture at all")
    whole = draw(tmp_path / "b.png", size=(60, 60)).read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    folder = Folder(tmp_path)
    assert [picture.name for picture in taken(folder, 3)] == ["b.png"] * 3
    assert folder.unreadable == 2
    assert [record.getMessage().count("skipped") for record in caplog.records] == [1, 1]


def test_a_huge_picture_is_skipped_before_it_is_decoded(tmp_path: Path) -> None:
    """A small file may decode to gigabytes."""
    Image.new("1", (10_000, 6_000)).save(tmp_path / "bomb.png")
    folder = Folder(tmp_path)
    assert folder.next() is None
    assert folder.unreadable == 1


@pytest.mark.parametrize(("name", "size"), [("large.jpg", (1_500, 1_000)), ("small.bmp", (40, 30))])
def test_a_picture_is_encoded_once(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    """The next rounds send the same bytes; another encoding has its own."""
    Image.effect_noise(size, 90).save(tmp_path / name)
    first, second = taken(Folder(tmp_path), 2)
    encoded = encode(first, "jpeg")
    assert encode(second, "jpeg") is encoded
    assert encoded.body != first.original
    assert encode(second, "png") == encode(read_picture(tmp_path / name, name), "png")


def test_encoded_pictures_count_for_the_limit_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not fit any more is encoded in every round, to the same bytes."""
    Image.effect_noise((40, 30), 90).save(tmp_path / "a.bmp")
    bytes_of_the_picture = 40 * 30 + (tmp_path / "a.bmp").stat().st_size
    monkeypatch.setattr("camera_sim.sources.folder._CACHE_BYTES", bytes_of_the_picture + 100)
    first, second = taken(Folder(tmp_path), 2)
    assert second is first
    encoded = encode(first, "jpeg")
    assert encode(second, "jpeg") is not encoded
    assert encode(second, "jpeg") == encoded


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_pictures_is_listed_again(tmp_path: Path, exists: bool) -> None:
    """The camera may start before its pictures exist."""
    path = tmp_path if exists else tmp_path / "later"
    folder = Folder(path)
    assert folder.next() is None
    draw(path / "a.png")
    assert taken(folder, 1)[0].name == "a.png"


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)]
)
def test_every_picture_has_one_channel_or_three(tmp_path: Path, mode: str, channels: int) -> None:
    """Pictures in other modes are converted to grey or RGB."""
    draw(tmp_path / "a.png", mode)
    picture = taken(Folder(tmp_path), 1)[0]
    assert picture.channels == channels
    assert picture.untouched == (mode in ("L", "RGB"))


CAT = (
    "<annotation><filename>a.png</filename>{extra}<object><name>cat</name><bndbox>"
    "<xmin>1</xmin><ymin>0</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize(
    ("picture", "annotation"), [("x/a.png", "x/a.xml"), ("JPEGImages/a.png", "Annotations/a.xml")]
)
def test_boxes_of_an_annotation_are_the_truth(tmp_path: Path, picture: str, annotation: str) -> None:
    """Pascal VOC beside the picture, or in VOC's own folders, comes before the name of a sub-folder."""
    draw(tmp_path / picture)
    (tmp_path / annotation).parent.mkdir(exist_ok=True)
    (tmp_path / annotation).write_text(CAT.format(extra=""))
    truth = taken(Folder(tmp_path), 1)[0].truth
    assert truth == '[{"label":"cat","box":{"l":0.25,"t":0.0,"w":0.5,"h":1.0}}]'


@pytest.mark.parametrize(
    "text",
    [
        "no XML",
        CAT.format(extra="<size><width>9</width><height>9</height></size>"),
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + CAT.format(extra="&b;"),
        "<annotation>" + " " * 1_000_000 + "</annotation>",
        CAT.format(extra="<size><width>inf</width><height>3</height></size>"),
    ],
    ids=["no XML", "of another picture", "an entity", "too long", "an endless side"],
)
def test_a_bad_annotation_is_logged_and_the_picture_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """It has no boxes then; nothing else is read. A picture that is read in every round is logged once."""
    monkeypatch.setattr("camera_sim.sources.folder._CACHE_BYTES", 0)
    draw(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(text)
    assert [each.truth for each in taken(Folder(tmp_path), 2)] == [None, None]
    assert [record.getMessage().count("has no boxes") for record in caplog.records] == [1]
