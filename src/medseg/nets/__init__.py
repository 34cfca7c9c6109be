"""Networks: images (B, C, *S) float32 in, logits (B, K, *S) without activation out, at any S.

S is H, W for pictures and slices, D, H, W for volumes; a network that sees volumes says ``spatial_dims = 3``, or has 3D
convolutions. A network knows activations and its own parameters. It knows no labels, losses, files of cases, nor who
trains it, and imports nothing of this package but the plain rooms ``types``, ``errors`` and ``rng``. In eval mode the
answer is always one tensor. While training it may also be a list or tuple of logits of the image's size (all weigh the
same, the one that is the answer in eval mode first), or one of the outputs in :mod:`medseg.types`: ``DeepOutput`` (side
outputs with weights, presence of classes), ``BranchOutput`` (branches that learn from each other), ``StructureOutput``
(overlapping structures).

Beside ``forward`` a network may have these methods; a method of such a name for another purpose would be called too (a
layer or a list of layers would not):

* ``losses(image, mask)`` returns named losses, whose sum is trained in place of ``forward`` and the configured loss;
* ``fit(images, masks)`` learns from the whole training side without gradients (``method=fitted``);
* ``tune(images, masks)`` chooses settings on the validation side after a fit; the attribute ``candidates``, where there
  is one, holds what is tried, and empty says that nothing is;
* ``prompt(mask, rng, jitter=...)`` simulates a user's points from the truth and makes the network interactive; then
* ``mark(image, points)`` puts them into the images, and ``forward`` answers marked and unmarked ones.

It may say of itself, as attributes of the class or the object:

* ``spatial_dims`` (or ``dimensions``): axes that it sees, 2 or 3;
* ``interaction``: what it is given beside the image, "none" if nothing;
* ``probabilistic``: whether the softmax of its logits is a probability; without it, whether it has parameters;
* ``READING``: in one line what is our reading of an incompletely published design, empty where the design is public;
* ``ENCODER``, ``HEAD``: names of the modules that transfer learning calls so (:mod:`medseg.nets.parts`); without them
  the parts that are called ``encoder`` and ``head``;
* ``UNTRAINED``: beginnings of the names of parameters that never get a gradient.
"""
