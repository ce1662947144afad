"""Measurements of a machine before trials run on it: latency of networks, throughput, trials that fit on a GPU, time plan.

In: architectures, a device. Out: milliseconds, images a second, how many trials at once, what a time budget allows.
Used by: searches and executors. To add a latency meter: one file in `latency/`.
"""
