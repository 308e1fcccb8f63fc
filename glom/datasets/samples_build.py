"""The small sample of CIFAR-10 that is shipped: how it was cut from the test images, and how it is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.folder import folder_dataset
from glom.datasets.sources import BytesSource, FileSource
from glom.errors import InputError

README = """\
# A sample of CIFAR-10

The first {each} images, by file name, of each of the {count} classes of CIFAR-10's test set, as CLASS/NUMBER.jpg:
32 x 32 pixels, JPEG files, byte for byte as they were.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. Licence: MIT.

`glom.datasets.samples_build.build_sample(source, out)` cuts the same archive, byte for byte, from an image folder.
"""


def build_sample(source: Path, out: Path, each: int = 20) -> Path:
    """Write the sample archive: the same bytes from the same images, whenever and wherever it runs.

    Args:
        source: an image folder, CLASS/NAME.jpg.
        out: the `.zip` to write.
        each: images a class, the first by name.

    Raises:
        InputError: no such folder, or a class with fewer images.
    """
    dataset = folder_dataset(source)
    classes = dataset.keys or ()
    entries: dict[str, bytes] = {}
    for label, name in enumerate(classes):
        chosen = [sample for sample in dataset if sample.label == label][:each]
        if len(chosen) < each:
            raise InputError(f"{source}: class '{name}' has {len(chosen)} images, {each} are needed")
        for sample in chosen:
            assert isinstance(sample.source, FileSource)
            entries[sample.id] = sample.source.path.read_bytes()
    entries["README.md"] = README.format(each=each, count=len(classes)).encode()
    return write_archive(out, entries)


def write_archive(out: Path, entries: Mapping[str, bytes]) -> Path:
    """A zip of these entries, uncompressed: the same bytes from the same entries."""
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data, compress_type=zipfile.ZIP_STORED)
    return out


def read_sample(data: bytes, name: str, templates: tuple[str, ...] | None = None) -> ImageDataset:
    """The data set in such an archive, kept in memory; ids are CLASS/NAME.jpg as in an unpacked folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.namelist() if "/" in member and not member.endswith("/")]
        contents = {member: archive.read(member) for member in members}
    classes = tuple(sorted({PurePosixPath(member).parts[0] for member in members}))
    samples = tuple(
        Sample(member, classes.index(PurePosixPath(member).parts[0]), BytesSource(content, f"{name}:{member}"))
        for member, content in contents.items()
    )
    return ImageDataset(name, samples, tuple(key.replace("_", " ") for key in classes), templates, classes)
