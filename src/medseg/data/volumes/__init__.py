"""Volumes: files with spacing and orientation, DICOM, preprocessing in three dimensions, registration."""
