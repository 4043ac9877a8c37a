# HND, a split network: a head with a bottleneck of 12 channels at stride 8, to
# run on a device, gives the map at stride 4 that the rest of DeepLabV3+ on
# ResNet-101 goes on from, on a server. Cityscapes. What crosses the link:
# tools/export_split.py.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/hnd.py']
