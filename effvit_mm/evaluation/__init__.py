"""What is wrong with a detector's predictions, and COCO's figures as tables of numbers."""
