"""The same as ``seg-kd prepare-data``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('prepare-data')
