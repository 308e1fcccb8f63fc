"""Whether what an argument names is there, found out while the command line is read: before anything heavy is imported.

A mistyped name is then said at once. These are callbacks of arguments and options: they return what they are given.
"""

from __future__ import annotations

from pathlib import Path


def one_picture(value: str) -> str:
    """A picture's file. Raises `InputError` where it is missing, a folder or empty."""
    from glom.datasets.reading import check_file

    check_file(Path(value))
    return value


def every_picture(values: list[str]) -> list[str]:
    """Files of pictures, all of which are needed."""
    return [one_picture(value) for value in values]


def any_picture(values: list[str]) -> list[str]:
    """Files of pictures of which those that cannot be read are passed over: one of them has to be there."""
    from glom.errors import InputError, demand_some, lost

    found = []
    for value in values:
        try:
            one_picture(value)
            found.append({"status": "ok"})
        except InputError as error:
            found.append(lost(error))
    demand_some(found, "pictures")
    return values


def runs_or_pictures(values: list[str]) -> list[str]:
    """Run folders, and files of pictures as `any_picture` takes them."""
    if not any(Path(value).is_dir() for value in values):
        any_picture(values)
    return values


def picture_or_folder(value: str) -> str:
    """A picture's file, or a folder of them."""
    return value if Path(value).is_dir() else one_picture(value)


def data_set(value: str | None) -> str | None:
    """A data set, as `glom.datasets.open_dataset` takes it; nothing is nothing."""
    if value:
        from glom.datasets.registry import check_spec

        check_spec(value)
    return value


def data_sets(value: str | list[str]) -> str | list[str]:
    """Data sets as arguments, or with commas between them."""
    for part in value.split(",") if isinstance(value, str) else value:
        data_set(part.strip())
    return value


def outlines(value: str) -> str:
    """Pictures with people's outlines: a folder, a named set of them, or one that is made when it is asked for."""
    from glom.errors import InputError

    named = ("composites", "tetrominoes", "multi-dsprites", "bsds500", "coco", "voc", "panoptic")
    if value.partition(":")[0] not in named and not Path(value).expanduser().is_dir():
        raise InputError(
            f"{value} is not a folder; give a bsds500 folder, one with pictures and masks, or one of {', '.join(named)}"
        )
    return value


def made_or_data_sets(value: str) -> str:
    """A set that is made when it is asked for, or data sets with commas between them."""
    return value if value.partition(":")[0] in ("tetrominoes", "multi-dsprites") else str(data_sets(value))


def data_set_or_composites(value: str) -> str:
    """A data set, or `composites`, which are made when they are asked for."""
    return value if value == "composites" else str(data_set(value))


def class_list(value: str | None) -> str | None:
    """A file of class names; nothing is nothing."""
    if value is not None:
        from glom.datasets.class_files import read_class_file

        read_class_file(Path(value))
    return value


def record_file(value: str | None) -> str | None:
    """Where a record goes; see `glom.runs.artifacts.check_record`."""
    if value is not None:
        from glom.runs.artifacts import check_record

        check_record(value)
    return value
