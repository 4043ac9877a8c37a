"""The same as ``seg-kd train``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('train')
