"""Systems without gradients, in the face of a net: thresholds, growing, clustering, pixel classifiers, contours."""
