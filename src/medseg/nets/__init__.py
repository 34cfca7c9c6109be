"""Networks: images (B, C, H, W) float32 in, logits (B, K, H, W) out, without activation, at any H and W.

A net knows activations and its own parameters. It knows no labels, losses, files of cases, nor who trains it, and
imports only ``medseg.types`` and ``medseg.errors``. While training, a net may answer with a list of logits (finest
first) or a ``BranchOutput``; in eval mode always with one tensor. A net with a ``prompt`` is interactive: ``mark``
puts a user's points into the image. A net with a ``fit`` learns without gradients. The class attribute ``READING``
says in one line what is our reading of an incompletely published design; it is empty where the design is public.
"""
