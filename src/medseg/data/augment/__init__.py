"""Random changes of training samples: pictures and slices through albumentations, volumes through MONAI, a seed each.

An augmentation is called ``augmentation(image, mask, *, seed)`` (``contract.Augmentation``). Own transforms stand where
they are faster than the libraries' (``warp``, ``tone``) or missing there (``ultrasound``). Importing a file of this
room imports MONAI never; only building a volume's transform does.
"""
