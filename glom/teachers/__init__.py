"""Teachers: frozen encoders behind one protocol (`glom.teachers.base.Teacher`). Importing it leaves torch alone."""

from glom.teachers.registry import TeacherRow, load_teacher, teacher_names

__all__ = ["TeacherRow", "load_teacher", "teacher_names"]
