"""docs/detection_data.md: each row of its table is held to by a test."""

from __future__ import annotations

from pages import absent_tests, table_rows

# Row -> tests of it.
ROWS = {
    'categories in another order than in training': [
        'test_detection_quirks::test_categories_of_validation_are_matched_by_name',
        'test_detection_evaluation::test_figures_do_not_depend_on_how_the_file_lists_its_categories',
    ],
    'a class without a box, or not in the file': [
        'test_coco_check::test_the_order_of_categories_is_no_fault_and_absent_ones_are_told',
    ],
    'names of categories that are numbers': [
        'test_detection_quirks::test_quirks_that_lose_nothing',
    ],
    'a name listed twice, one without a box': [
        'test_coco_check::test_of_a_category_listed_twice_the_one_with_boxes_is_taken',
    ],
    'a name listed twice, both with boxes; an id listed twice': [
        'test_coco_check::test_categories_that_cannot_be_told_apart',
        'test_bad_detection_data::test_image_ids_used_twice',
    ],
    'boxes of other categories than the classes': [
        'test_bad_detection_data::test_categories_that_the_config_does_not_know',
        'test_bad_detection_data::test_category_ids_that_the_file_does_not_list',
    ],
    'UTF-8 with a byte-order mark, UTF-16, UTF-32': [
        'test_detection_quirks::test_a_mark_instead_of_text_is_no_class',
        'test_annotation_rules::test_what_passes_is_trained_on',
    ],
    '`iscrowd`, `ignore`, `difficult` as null, `"0"`, `"1"`, true, or missing': [
        'test_coco_check::test_what_stands_for_iscrowd',
        'test_coco_check::test_iscrowd_that_is_missing_or_null_is_0',
    ],
    'ids as text, as `3.0`; names with spaces around; `\\` in file names': [
        'test_coco_forms::test_how_ids_and_names_are_written_does_not_count',
        'test_coco_forms::test_where_an_image_lies_that_is_not_where_the_file_says',
    ],
    'images where `file_name` does not say, but near': [
        'test_coco_forms::test_where_an_image_lies_that_is_not_where_the_file_says',
    ],
    'no area, or null': [
        'test_annotation_gaps::test_what_is_found_is_what_would_be_written_in',
        'test_annotation_gaps::test_training_on_it_is_the_same',
        'test_annotation_gaps::test_the_figures_are_the_same',
    ],
    'no width or height of an image, null, 0': [
        'test_annotation_gaps::test_a_run_tells_both_once_for_each_set_and_ends_well',
        'test_detection_quirks::test_a_size_that_is_not_said_is_that_of_the_image',
    ],
    "a rotation: `rotation`, `angle`, `theta`, CVAT's attribute": [
        'test_coco_check::test_a_box_that_is_turned_is_told_unless_its_outline_is_there',
        'test_detection_quirks::test_a_rotation_among_attributes_is_told',
    ],
    'area 0': ['test_coco_check::test_a_fault_of_an_annotation_is_found_in_its_image'],
    'a box listed twice with one mask or none': [
        'test_coco_check::test_a_box_listed_twice_is_told_unless_its_masks_differ',
    ],
    '`indices`, or a filter without `test_mode`, where all of a file is judged': [
        'test_detection_quirks::test_a_part_of_a_set_is_not_judged_by_all_of_it',
    ],
    'boxes that look like two corners': ['test_coco_forms::test_boxes_that_are_corners_are_told'],
    'crowds, objects marked `difficult`': [
        'test_detection_quirks::test_crowds_are_counted_and_nothing_but_crowds_is_refused',
    ],
    'objects marked `ignore`': [
        'test_detection_quirks'
        '::test_boxes_that_training_leaves_out_and_evaluation_counts_are_told_for_both',
    ],
    'boxes inverted, below a pixel, outside of the image': [
        'test_coco_check::test_a_fault_of_an_annotation_is_found_in_its_image',
        'test_annotation_rules::test_what_passes_of_voc_is_trained_on_and_evaluated',
    ],
    'boxes that reach beyond the image': [
        'test_coco_check::test_a_fault_of_an_annotation_is_found_in_its_image',
    ],
    'polygons as one flat list, as pairs': [
        'test_coco_check::test_polygons_however_they_are_nested',
    ],
    'a polygon of two points or less beside others': [
        'test_coco_check::test_of_several_polygons_those_that_are_none_are_left_out',
    ],
    "run lengths as a list, as a text, as a text of bytes (`b'...'`)": [
        'test_run_lengths::test_the_check_the_loader_and_the_evaluator_agree',
    ],
    'masks of no use: no polygon, broken run lengths': [
        'test_coco_check::test_masks_of_no_use_are_not_learned_and_break_an_evaluation',
        'test_run_lengths::test_the_check_the_loader_and_the_evaluator_agree',
    ],
    'masks of another size than the image': [
        'test_run_lengths::test_the_check_the_loader_and_the_evaluator_agree',
    ],
    'no mask': [
        'test_bad_detection_data::test_masks_that_are_missing',
        'test_detection_quirks'
        '::test_masks_that_pycocotools_would_stop_at_are_refused_where_they_are_judged',
    ],
    'annotation ids used twice, text, 0, missing': [
        'test_coco_check::test_annotations_without_ids_are_numbered',
        'test_bad_detection_data::test_annotation_ids_used_twice_are_numbered_anew',
        'test_detection_evaluation::test_an_annotation_with_id_0_is_found',
    ],
    'no list of annotations': [
        'test_detection_quirks::test_a_set_to_predict_on_has_no_annotations',
    ],
    'an image of another size than stated, as turned by EXIF': [
        'test_bad_detection_data::test_an_image_of_another_size_than_its_annotations_say',
        'test_coco_check::test_an_image_turned_by_its_exif_orientation',
    ],
    'VOC: `.png`, `.JPG`, ...': [
        'test_detection_quirks::test_images_of_any_format',
        'test_detection_quirks::test_two_images_of_one_name_and_an_image_that_is_missing',
    ],
    'VOC: lists with empty lines, endings, columns of -1, 0, 1': [
        'test_detection_quirks::test_list_files',
    ],
    'VOC: no `<name>`, no `<bndbox>` or several in an object, no number': [
        'test_detection_quirks::test_a_file_that_cannot_be_used',
    ],
    'VOC: another root than `<annotation>`': [
        'test_detection_quirks::test_a_file_that_cannot_be_used',
    ],
    "VOC: roLabelImg's `<robndbox>`": [
        'test_detection_quirks::test_rotated_boxes_become_those_around_them_as_the_message_says',
    ],
    'VOC: boxes below `bbox_min_size`': [
        'test_annotation_rules::test_what_passes_of_voc_is_trained_on_and_evaluated',
    ],
    'YOLO: a label file missing or empty': [
        'test_yolo::test_images_without_labels_are_background_and_quirks_of_text_are_read',
    ],
    'YOLO: a label file without an image': [
        'test_yolo::test_shared_faults_are_found_by_label_file_and_line',
    ],
    'YOLO: a class without a name, other than 5 or an odd number of values from 7 on, no number, '
    'values outside of 0 to 1': [
        'test_yolo::test_a_row_that_cannot_be_used_is_named_by_file_line_and_value',
    ],
}


def test_each_row_has_a_test():
    assert table_rows('detection_data.md', 'What happens with ...') == list(ROWS)
    assert absent_tests([name for names in ROWS.values() for name in names]) == []
