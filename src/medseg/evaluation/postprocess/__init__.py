"""Steps from class probabilities to class probabilities on the native grid, each chosen on validation or left out."""
