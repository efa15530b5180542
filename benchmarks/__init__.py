"""Programs that measure speed, memory and accuracy beside other networks; not in the wheel."""
