"""The same as ``seg-kd compare``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('compare')
