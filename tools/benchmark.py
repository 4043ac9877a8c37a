"""The same as ``seg-kd benchmark``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('benchmark')
