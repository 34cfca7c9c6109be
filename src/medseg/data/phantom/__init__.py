"""Phantom room: a simulator of thyroid B-mode ultrasound, the dataset that needs no download.

Lives here, in the order an image is made: ``patient`` (what is drawn at random, in mm), ``texture`` (grids and smooth
noise), ``nodule``, ``neck`` and ``anatomy`` (``maps`` of echogenicity, attenuation and interfaces), ``physics``
(scatterers, point spread function, attenuation, compression), ``scanner`` (two machines), ``export`` (the screen
around the scan) and ``simulate``, which joins them.
It may import ``errors`` and ``rng``; it opens no file and knows nothing of cases or splits. All arithmetic is double
precision and free of threads, so that equal seeds give equal pixels.

The speckle follows the textbook model of fully developed speckle (Wagner et al. 1983, doi:10.1109/T-SU.1983.31404);
anatomy, tissue levels and screen layout are our own reading of clinical pictures and are not calibrated.
"""
