"""Outlines in every encoding that tools write, and in the layouts of COCO's panoptic masks and PASCAL VOC."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glom.datasets import open_dataset
from glom.datasets.check import check_dataset
from glom.datasets.label_maps import read_ids, read_mask
from glom.datasets.segmentation import open_segmentation
from glom.errors import InputError
from tests.helpers_images import photo

LABELS = np.zeros((40, 48), np.int64)
LABELS[5:20, 5:20], LABELS[22:38, 10:40] = 1, 2


def indexed(labels: np.ndarray) -> Image.Image:
    """Of indexed colour, with VOC's first colours and its 255."""
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putdata(labels.astype(np.uint8).ravel().tolist())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [9] * 252 * 3 + [224, 224, 192])
    return image


def coded(ids: np.ndarray) -> Image.Image:
    """COCO's panoptic ids in red, green and blue."""
    return Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8))


def put(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("image", "names"),
    [
        (Image.fromarray(LABELS.astype(np.uint8)), [0, 1, 2]),
        (Image.fromarray((LABELS * 300).astype(np.uint16)), [0, 300, 600]),
        (Image.fromarray(LABELS > 0), [0, 1]),
        (indexed(LABELS), [0, 1, 2]),
        (indexed(np.where(LABELS == 2, 255, LABELS)), [-1, 0, 1]),
        (Image.fromarray(np.where(LABELS == 2, 255, LABELS).astype(np.uint8)), [0, 1, 255]),
        (coded(LABELS * 70_000), [0, 0x701101, 0xE02202]),
        (coded(LABELS * 70_000).convert("RGBA"), [0, 0x701101, 0xE02202]),
    ],
    ids=["grey", "16 bits", "boolean", "indexed", "indexed with void", "grey with 255", "colours", "with alpha"],
)
def test_a_mask_in_any_encoding_has_its_regions(image: Image.Image, names: list[int], tmp_path: Path) -> None:
    found = read_mask(put(image, tmp_path / "mask.png"))
    assert np.unique(found).tolist() == names
    inverse = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    expected = np.unique(np.asarray(image), axis=None)
    assert found.shape == LABELS.shape and len(expected) >= len(names) - 1
    assert (inverse[LABELS == 1] == inverse[10, 10]).all() and (inverse[LABELS == 0] == inverse[0, 0]).all()


def test_as_many_regions_as_16_bits_name_are_read(tmp_path: Path) -> None:
    many = (np.arange(256 * 256) % 65_535).reshape(256, 256).astype(np.uint16)
    found = read_mask(put(Image.fromarray(many), tmp_path / "mask.png"))
    assert len(np.unique(found)) == 65_535


def test_panoptic_ids_are_cocos(tmp_path: Path) -> None:
    ids = LABELS * 5_000_123
    assert (read_ids(put(coded(ids), tmp_path / "a.png")) == ids).all()
    with pytest.raises(InputError, match=r"b.png: panoptic ids are coded in red, green and blue; this is L"):
        read_ids(put(Image.new("L", (4, 4)), tmp_path / "b.png"))


# -- COCO's panoptic masks ----------------------------------------------------------------------------------------


IDS = np.choose(LABELS, [7_000_001, 300, 70_000])  # grass, a dog, a cat
IDS[0], IDS[39, :9] = 0, 9  # nobody said; a crowd


def panoptic(root: Path) -> Path:
    """Two photographs in COCO's folders, with panoptic masks."""
    told = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in (5, 9)],
        "categories": [{"id": 18, "isthing": 1}, {"id": 17, "isthing": 1}, {"id": 193, "isthing": 0}],
        "annotations": [
            {
                "image_id": n,
                "file_name": f"{n:012d}.png",
                "segments_info": [
                    {"id": 7_000_001, "category_id": 193, "iscrowd": 0},
                    {"id": 300, "category_id": 18, "iscrowd": 0},
                    {"id": 70_000, "category_id": 17, "iscrowd": 0},
                    {"id": 9, "category_id": 18, "iscrowd": 1},
                ],
            }
            for n in (9, 5)
        ],
    }
    for n in (5, 9):
        put(photo(seed=n), root / "val2017" / f"{n:012d}.jpg")
        put(coded(IDS), root / "annotations" / "panoptic_val2017" / f"{n:012d}.png")
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(told))
    return root


def test_cocos_panoptic_masks_have_things_stuff_void_and_classes(tmp_path: Path) -> None:
    panoptic(tmp_path / "coco")
    data = open_segmentation(f"coco:{tmp_path}")
    assert (data.name, [p.id for p in data.pictures]) == ("coco/val panoptic", ["000000000005", "000000000009"])
    item = data.pictures[0]
    image, (regions,) = item.read()
    assert (regions[0] == -1).all() and (regions[39, :9] == -1).all() and (regions < 0).sum() == 48 + 9
    assert item.background == (1,) and (regions[1:39][LABELS[1:39] == 0] == 1).all()
    classes = item.classes(image.width, image.height)
    assert classes is not None
    assert {int(classes[0, 0]), int(classes[1, 0]), int(classes[10, 10]), int(classes[30, 30])} == {-1, 0, 18, 17}
    assert regions[10, 10] != regions[30, 30]


def test_damaged_panoptic_masks_are_one_line_each(tmp_path: Path) -> None:
    root = panoptic(tmp_path / "coco")
    masks, path = root / "annotations" / "panoptic_val2017", root / "annotations" / "panoptic_val2017.json"
    before = open_segmentation(f"coco:{root}").fingerprint()
    put(coded(np.where(IDS == 300, 301, IDS)), masks / "000000000005.png")
    (masks / "000000000009.png").unlink()
    data = open_segmentation(f"coco:{root}")
    for item, says in zip(
        data.pictures, ("5.png: id 301 is none of its 4 segments", "no 000000000009.png"), strict=True
    ):
        with pytest.raises(InputError, match=says):
            item.read()
    put(coded(IDS), masks / "000000000009.png")
    put(coded(IDS), masks / "000000000005.png")
    path.write_text(path.read_text().replace('"category_id": 17', '"category_id": 18'))
    assert open_segmentation(f"coco:{root}").fingerprint() != before
    masks.rename(masks.with_name("elsewhere"))
    with pytest.raises(InputError, match=r"panoptic_val2017.zip, which came with"):
        open_segmentation(f"coco:{root}")
    path.write_text('{"images": []}')
    masks.with_name("elsewhere").rename(masks)
    with pytest.raises(InputError, match="not a COCO panoptic file"):
        open_segmentation(f"coco:{root}")


# -- PASCAL VOC ---------------------------------------------------------------------------------------------------


def voc(root: Path) -> Path:
    """Two pictures on the list of `val`, a third that is on none; an outline of void."""
    void = LABELS.copy()
    void[21], void[20, 5:20] = 255, 255
    for name in ("2007_000033", "2007_000042", "2008_000001"):
        put(photo(seed=len(name)), root / "JPEGImages" / f"{name}.jpg")
        put(indexed(void), root / "SegmentationObject" / f"{name}.png")
        put(
            indexed(np.where(void == 255, 255, np.choose(LABELS, [0, 12, 15]))),
            root / "SegmentationClass" / f"{name}.png",
        )
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000042\n2007_000033\n")
    (lists / "train.txt").write_text("2008_000001\n")
    return root


def test_voc_by_name(tmp_path: Path) -> None:
    base = voc(tmp_path / "VOCdevkit" / "VOC2012")
    for root in (tmp_path, base):
        data = open_segmentation(f"voc:{root}")
        assert (data.name, [p.id for p in data.pictures]) == ("voc/val", ["2007_000033", "2007_000042"])
    image, (regions,) = data.pictures[0].read()
    classes = data.pictures[0].classes(image.width, image.height)
    assert np.unique(regions).tolist() == [-1, 0, 1, 2] and data.pictures[0].background == 0
    assert classes is not None and np.unique(classes).tolist() == [-1, 0, 12, 15]
    assert [p.id for p in open_segmentation(f"voc:{tmp_path}", "train").pictures] == ["2008_000001"]
    assert [s.id for s in open_dataset(f"voc:{tmp_path}", split="val")] == ["2007_000033.jpg", "2007_000042.jpg"]
    before = data.fingerprint()
    put(Image.new("P", (9, 9)), base / "SegmentationClass" / "2007_000033.png")
    again = open_segmentation(f"voc:{tmp_path}")
    assert again.fingerprint() != before
    with pytest.raises(InputError, match="its classes are 9x9 pixels, the picture 48x40"):
        again.pictures[0].classes(48, 40)
    (base / "SegmentationClass" / "2007_000033.png").unlink()
    assert open_segmentation(f"voc:{tmp_path}").pictures[0].classes(48, 40) is None


def test_voc_is_checked_by_its_lists(tmp_path: Path) -> None:
    base = voc(tmp_path / "VOCdevkit" / "VOC2012")
    found = check_dataset("voc", tmp_path)
    assert [(s.split, s.images) for s in found.splits] == [("test", 2), ("train", 1)]
    assert found.problems == ("test: 2 images, 1,449 were published", "train: 1 image, 1,464 were published")
    (base / "JPEGImages" / "2008_000001.jpg").unlink()
    assert any("1 listed file is not there" in p for p in check_dataset("voc", tmp_path).problems)
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("")
    with pytest.raises(InputError, match=r"val.txt lists no picture"):
        open_segmentation(f"voc:{tmp_path}")
    (base / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(InputError, match="voc: no list of pictures"):
        open_segmentation(f"voc:{tmp_path}")
    with pytest.raises(InputError, match="voc: not there"):
        open_segmentation(f"voc:{tmp_path / 'nowhere'}")


# -- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_of_panoptic_masks_has_void_and_no_background(tmp_path: Path) -> None:
    for i in range(2):
        put(photo(seed=i), tmp_path / f"{i}.jpg")
        put(Image.fromarray(LABELS.astype(np.uint8)), tmp_path / f"{i}.png")
    item = open_segmentation(f"panoptic:{tmp_path}").pictures[0]
    assert item.background is None and np.unique(item.read()[1]).tolist() == [-1, 1, 2]
    plain = open_segmentation(tmp_path).pictures[0]
    assert plain.background == 0 and np.unique(plain.read()[1]).tolist() == [0, 1, 2]
    assert len(open_segmentation(f"panoptic:{tmp_path}", limit=1).pictures) == 1
    with pytest.raises(InputError, match="is not a folder"):
        open_segmentation(f"panoptic:{tmp_path / 'nowhere'}")


def test_a_folder_may_hold_classes_beside_its_masks(tmp_path: Path) -> None:
    for i in range(2):
        put(photo(seed=i), tmp_path / "images" / f"{i}.jpg")
        put(Image.fromarray(LABELS.astype(np.uint8)), tmp_path / "masks" / f"{i}.png")
    put(Image.fromarray((LABELS > 0).astype(np.uint8) * 4), tmp_path / "classes" / "1.png")
    first, second = open_segmentation(tmp_path).pictures
    assert first.classes(48, 40) is None
    classes = second.classes(48, 40)
    assert classes is not None and np.unique(classes).tolist() == [0, 4]
