"""Training of one network: a `Recipe`, a network and batches become one `Epoch` record after another.

In: `Architecture`, `Recipe`, data, a device. Out: `Epoch`s, checkpoints, weights, test metrics; a resumed training gives the same bits.
`trainer` is the loop, `workspace` a device with the images on it, `checkpointed_training` what continues from a checkpoint;
`full_training` and `comparison` are whole jobs in a folder.
Used by: executors, commands. To add an option of the recipe: `recipe.py`, then where the loop uses it.
"""
