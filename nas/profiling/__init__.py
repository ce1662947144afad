"""Measurements of a machine before trials run on it: latency of networks, throughput, trials that fit on a GPU, time plan.

In: architectures, a device. Out: latency in ms, images a second, the number of trials on a GPU, a plan for a time budget.
Used by: searches and executors. To add a latency meter: one file in `latency/`.
"""
