"""bnlab: why a network with batch normalization differs between training and inference, measured."""
