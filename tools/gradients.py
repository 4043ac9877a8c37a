"""The same as ``seg-kd gradients``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('gradients')
