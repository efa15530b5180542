"""Tables of the documentation, each row of which names what a test holds it to."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCS = TESTS.parent / 'docs'
# Rows of docs/data_quirks.md with tests of their own.
OF_FOLDERS = {
    'images beside class folders': (
        'test_data_quirks::test_beside_the_classes_nothing_becomes_one_and_what_lies_there_is_named'
    ),
    'class without images': 'test_folder_check::test_faults_of_class_folders_are_named',
    'class of validation alone': (
        'test_folder_check::test_classes_of_validation_are_matched_by_name'
    ),
    'class that validation lacks': (
        'test_folder_check::test_a_class_that_validation_lacks_is_told_of_either_kind_of_set'
    ),
    'file that a list names twice': (
        'test_folder_check::test_a_list_that_names_files_twice_or_such_as_are_not_there'
    ),
    'file of a list that does not exist': (
        'test_folder_check::test_a_list_that_names_files_twice_or_such_as_are_not_there'
    ),
    'image of training and of validation': (
        'test_shared_images::test_a_training_tells_of_them_and_goes_on'
    ),
}
OF_PERSONS = {
    'query without a match by another camera': (
        'test_folder_check::test_queries_without_a_match_are_told_before_the_start'
    ),
    'person with fewer images than `num_instances`': (
        'test_folder_check::test_persons_whose_images_are_copied_are_told'
    ),
}


def table_rows(page: str, section: str) -> list[str]:
    """The first column of the table in a section of ``docs/<page>``."""
    text = (DOCS / page).read_text().partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [line.split('|')[1].strip() for line in lines[2:]]


def absent_tests(names: Iterable[str]) -> list[str]:
    """Those of ``test_file::test_name`` that there are not."""
    known = {}
    for name in names:
        file = name.partition('::')[0]
        if file not in known:
            path = TESTS / f'{file}.py'
            tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
            known[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    return [name for name in names if name.partition('::')[2] not in known[name.partition('::')[0]]]
