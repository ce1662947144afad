"""The page, log and TensorBoard files of a training."""
