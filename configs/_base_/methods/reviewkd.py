# ReviewKD on all four levels. The middle width is that of the authors' port to
# segmentation; that of CIFAR, 320, has five times the parameters and costs.
levels = [f'backbone[{i}]' for i in range(4)]  # shallow to deep
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(ReviewKDHook=dict(
    student=levels, teacher=levels, mid_channels=64, weight=0.094))
